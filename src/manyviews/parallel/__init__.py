"""The parallel room."""
