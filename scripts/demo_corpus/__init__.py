"""The text the demo model learns from: a module a task family, all generated from small tables and a seed."""
