"""Drafts: guesses of the next tokens, which one forward pass checks together."""
