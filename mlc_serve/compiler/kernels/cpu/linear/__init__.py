"""Kernels that read weights: products, embeddings and norms, and how activations are prepared for them."""
