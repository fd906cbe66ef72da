"""The comparison with other CPU engines: it sets them up, runs them in turn with ours, and prints tables."""
