"""What differs between operating systems: starting a tree of processes, interrupting it, killing it."""

from __future__ import annotations

import os

from mlc_serve.supervisor.platforms.tree import Spawn


def this_platform() -> Spawn:
    """How processes are started here."""
    # Imported here because neither module works on the other's system.
    if os.name == "nt":
        from mlc_serve.supervisor.platforms.windows import spawn_in_job

        return spawn_in_job
    from mlc_serve.supervisor.platforms.posix import spawn_in_group

    return spawn_in_group
