"""Weights that other programs have quantized and packed, in Hugging Face directories: which forms are known,
and how each of them is read.
"""
