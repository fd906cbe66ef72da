"""The comparison with other CPU engines: sets them up, runs them in turn with this one, and prints tables."""
