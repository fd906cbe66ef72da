"""Measuring an engine or a server: load, who answers it, and figures of what came back."""
