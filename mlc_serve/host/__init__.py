"""Access to the machine: memory, disks, processes, signals, threads. Nothing here depends on models."""
