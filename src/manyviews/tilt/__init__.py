"""The tilt room."""
