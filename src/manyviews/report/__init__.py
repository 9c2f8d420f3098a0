"""The page of a run.

Start with `sections`, what a job hands over; then `build` and `page`, which make a page of it, `data` (what
every run folder holds) and `common`, sections that fit more than one job.
"""
