"""Files in llama.cpp's format, GGUF, as checkpoints."""
