"""The layers that every request passes before it reaches a path; app.py puts them in order."""
