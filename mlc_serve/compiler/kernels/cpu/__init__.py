"""CPU kernels in TIR, one noun a file. Each factory returns a PrimFunc for fixed model dimensions and any
batch.
"""
