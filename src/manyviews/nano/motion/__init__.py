"""Specimens that move and deform in space while they are scanned: the motion and the volume from one scan."""
