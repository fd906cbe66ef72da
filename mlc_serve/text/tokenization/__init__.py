"""Turns text into token ids and back, by the tokenizers that come with models."""
