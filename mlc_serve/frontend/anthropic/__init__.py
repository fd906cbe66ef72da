"""Translates Anthropic's requests into chat completions, and the replies back. Pure functions and values."""
