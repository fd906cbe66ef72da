"""What kernels of all kinds are made of: vectors, local buffers, elementary functions, and multiplication."""
