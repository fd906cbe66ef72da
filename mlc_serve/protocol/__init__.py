"""The wire types of the HTTP API: requests, replies, errors. Knows no engine and no HTTP server."""
