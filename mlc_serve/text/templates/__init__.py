"""Turns conversations into prompts by the templates that come with models."""
