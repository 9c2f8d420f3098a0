"""What maps are called in a run folder, whichever job wrote them."""

VOLUME_FILE = "volume.mrc"
HALF1_FILE, HALF2_FILE = "half1.mrc", "half2.mrc"
MASK_FILE = "mask.mrc"
