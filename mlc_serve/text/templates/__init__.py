"""Conversations to prompts, by the templates that come with models."""
