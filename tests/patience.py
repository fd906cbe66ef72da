"""How long tests wait for an event before they say that it never came."""

from __future__ import annotations

# Seconds, with much to spare: other processes may have the cores, and only a test that fails waits so long.
PATIENCE = 120.0
