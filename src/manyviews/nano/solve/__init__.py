"""Volume and motion together, a level of pixels at a time.

Read `problem` first (data of a level, and the ranks that share them), then `joint` (our solver) and
`printed` (the paper's); `start` finds shifts to begin with, `levels` carries a state to finer pixels.
"""
