"""manyviews: many views, one volume.

Reconstruct 3-D volumes from electron-microscopy and nano-CT projections. This module stays light so that
``import manyviews`` and ``manyviews --help`` are quick; the rooms are imported where they are used.
"""

__version__ = "0.1.0"
