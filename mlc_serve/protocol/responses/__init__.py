"""Wire types of OpenAI's Responses API: the request, its items, the reply and the events of a stream."""
