"""When work is worth the time that it takes to wake another thread."""

from __future__ import annotations

# Waking a thread takes as long as the cheapest work on so many values: rotating them by their positions.
# Kernels whose work costs more divide this number by how many times more it costs.
VALUES_PER_WAKING = 1 << 17

# Rows of activations that one thread rounds before another has woken, whatever their width.
FEW_ROWS = 4
