"""Text to token ids and back: tokenizers, chat templates, stop strings, tool calls. Needs no engine."""
