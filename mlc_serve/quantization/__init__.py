"""Quantization schemes: what each of them stores, and how weights are packed for the kernels."""
