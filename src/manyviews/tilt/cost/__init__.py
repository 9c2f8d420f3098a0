"""Memory and time of a reconstruction, counted before it starts."""
