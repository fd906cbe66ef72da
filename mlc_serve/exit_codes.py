"""The exit codes of the command line: what a shell or a supervisor learns from a process that has ended.

Those from 64 to 78 have the numbers that sysexits.h gives to such ends.
"""

from __future__ import annotations

EXIT_OK = 0
# Something is missing that may be there the next time: a device, a tool, a place to write to.
EXIT_STARTUP_ERROR = 1
# A flag, a key or a value is wrong: the same command line will never start. argparse's own number.
EXIT_CONFIG_ERROR = 2
# The model can't be used: its directory or a file of it is missing or wrong. It will not start either.
EXIT_CHECKPOINT_ERROR = 65
# The model could not be downloaded, which may succeed later.
EXIT_DOWNLOAD_FAILED = 69
# An engine died, and what supervises the process should start it again.
EXIT_ENGINE_DEAD = 70
# A disk is full.
EXIT_DISK_FULL = 74
# Another process has the address; another port will do.
EXIT_PORT_IN_USE = 75
# What a shell reports of SIGINT and of SIGTERM.
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
