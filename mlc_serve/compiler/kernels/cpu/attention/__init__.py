"""Attention over the pages of the KV cache and over new tokens, and what reads and writes those pages."""
