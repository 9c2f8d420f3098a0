"""Many processes, one job.

Start with `world`: what processes say to each other, and one process alone. Then `mpi` (the same over MPI),
`launch` (how a process was started, how a job ends), `layout` (groups and slabs). `slurm` writes batch
scripts.
"""
