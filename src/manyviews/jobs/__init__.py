"""One frame for every job.

Start with `run`: it opens the folder, runs stages, tells, saves and ends. `live` is the report while it runs,
`device` what a rank computes on.
"""
