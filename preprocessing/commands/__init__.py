"""The commands of `python -m preprocessing`, one module each: flags and the call of the work."""
