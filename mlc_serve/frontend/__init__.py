"""Turns requests into the engine's inputs, and the engine's tokens into replies. Runs on the event loop."""
