"""Wire types of Anthropic's API: requests, replies, the events of streams, errors."""
