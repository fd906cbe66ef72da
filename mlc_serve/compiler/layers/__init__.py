"""The layers that the compiler supplies to architectures, for CPUs and for GPUs."""
