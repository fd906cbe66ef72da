"""Servers in processes of their own."""
