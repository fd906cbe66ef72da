"""The wire types of the HTTP API: requests, replies, errors. Knows nothing about engines and HTTP servers."""
