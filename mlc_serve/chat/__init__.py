"""A chat in the terminal: a conversation with a model in this process or on a server. Loads no model."""
