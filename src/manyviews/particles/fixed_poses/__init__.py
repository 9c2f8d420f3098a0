"""Images in known poses as a least-squares problem over Fourier coefficients, and how hard it is to solve.

Start with `objective`; then `diagonals`, what to precondition it by, `optimum`, its exact solution, and
`spectrum`, its condition number, which `condition` makes a job of.
"""
