"""Kernels of our own, by kind of device."""
