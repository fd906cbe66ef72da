"""From requests on the wire to what the engine is given, from its tokens to replies. On the event loop."""
