"""The engine's backend on TVM: devices, libraries, weights, the paged KV cache, forward passes and sampling.

Works with TVM's runtime alone; no compiler is imported on this path.
"""
