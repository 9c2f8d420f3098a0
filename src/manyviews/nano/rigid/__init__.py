"""Views as images of a specimen at rest: where they lie, how they turn, and from where they look."""
