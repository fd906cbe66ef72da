"""Trains, scores and exports the demo model. What it is trained on is in demo_corpus."""
