"""The HTTP server in front of the engines. The only package that imports fastapi. Runs on the event loop."""
