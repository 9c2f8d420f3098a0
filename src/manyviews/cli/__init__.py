"""The command line.

Start with `commands`, the list of all, and `command`, what one is; `arguments` makes it from options, `main`
finds, calls and explains (`failures`). `tilt`, `particles`, `general`, `submit`: the commands.
"""
