"""Stores computed prefixes in files, where they outlive eviction and restarts."""
