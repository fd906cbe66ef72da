"""Turns a request for a response into one for a chat completion, and the chat's reply into a response."""
