"""Keeps prefixes that the prefix cache evicts, in files that a restart finds."""
