"""The text that the demo model is trained on: one module per task family, made from tables and a seed."""
