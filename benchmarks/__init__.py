"""Programs that measure the engine and the server. Each prints a table, and JSON on its last line."""
