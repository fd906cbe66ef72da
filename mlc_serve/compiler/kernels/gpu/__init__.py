"""Kernels for GPUs, where neither TVM nor dlight has one."""
