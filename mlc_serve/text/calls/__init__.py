"""Reads tool calls in the form of each family of models, and writes grammars that force a call."""
