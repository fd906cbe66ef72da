"""Attention over the pages of the KV cache and over new tokens, and kernels that read and write the pages."""
