"""The HTTP face of the engines. The only package that imports fastapi. It runs on the event loop."""
