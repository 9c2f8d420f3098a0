"""One format a file, read strictly and written whole.

Start with `mrc_header` and `mrc`; then `imod`, `aretomo`, `mdoc` and `relion_tomo` for tilt series,
`particle_table` with `relion_particles`, `cryosparc` and `particle_images` for particles. `atomic`,
`shared_file` and `scratch` are how files are written.
"""
