"""The frame of every job: `run` opens, tells, saves and ends; `live` shows what there is while it runs."""
