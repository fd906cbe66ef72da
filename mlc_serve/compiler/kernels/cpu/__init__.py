"""CPU kernels in TIR, by purpose: ../README.md says which is chosen when, and where to begin reading."""
