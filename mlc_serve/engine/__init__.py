"""The engine without a device: requests, scheduling, the prefix cache, and the loop that runs the steps."""
