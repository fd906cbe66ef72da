"""Families of models, one file each: how a configuration is read, and what checkpoints call the weights."""
