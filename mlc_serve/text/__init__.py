"""Strings to token ids and back: tokenizer, chat templates, stop strings, tool calls. Knows no engine and no
server.
"""
