"""Drafts that are looked up in the text itself, measured on real tasks with a real model."""
