"""What the machine under us gives: memory, disks, processes, signals, threads. Knows nothing of models."""
