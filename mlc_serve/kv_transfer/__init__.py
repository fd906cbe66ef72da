"""Moves keys and values between servers, over TCP or through memory that two processes share."""
