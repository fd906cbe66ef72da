"""Programs that measure the engine and the server. Each prints tables, and their rows as lines of JSON."""
