"""What each sub-command does, as a function that other programs can call."""
