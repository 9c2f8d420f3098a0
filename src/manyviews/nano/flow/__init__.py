"""Where each projection moved.

``flow (n, 2, z, x)`` float32, in pixels, along x (columns), then z (rows): ``data = D_f model`` reads the
model there. Read `engines` first, then an engine (`farneback`, `dis`, `grid`, `shifts`); `accept` keeps
what helps, `gauge` takes out what is a motion of the object, `mass` is for projections whose mass is
kept.
"""
