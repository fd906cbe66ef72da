"""Quantization schemes: what each stores, and how weights are packed for the kernels that read them."""
