"""How near two things are.

Start with `fsc`; `correlation` and `error` are for images and volumes, `pose_error` for the poses of
particles.
"""
