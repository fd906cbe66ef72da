"""The paths that the server answers, one file per group."""
