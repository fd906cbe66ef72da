"""Mixtures of experts: which experts a token is sent to, and products with the weights of those only."""
