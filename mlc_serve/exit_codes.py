"""The exit codes of the command line: what a shell or a supervisor learns from a process that has ended."""

from __future__ import annotations

EXIT_OK = 0
# A model or a device can't be used.
EXIT_STARTUP_ERROR = 1
# A flag, a key or a value is wrong: the same command line will never start. argparse's own number.
EXIT_CONFIG_ERROR = 2
# EX_SOFTWARE of sysexits.h: an engine died, and what supervises the process should start it again.
EXIT_ENGINE_DEAD = 70
# EX_TEMPFAIL of sysexits.h: another process has the address; another port will do.
EXIT_PORT_IN_USE = 75
# What a shell reports of SIGINT.
EXIT_INTERRUPTED = 130
