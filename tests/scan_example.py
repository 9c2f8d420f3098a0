"""Small scans whose projections, angles and centre are known, written in every format."""

import h5py
import numpy as np
import tifffile

ROWS, COLUMNS = 12, 48
CENTER = 25.3
BEAM, DARK = 20000.0, 100.0
# x, y, z from the axis and the first row, radius, mass a pixel: not symmetric in anything
BALLS = ((-8.0, 3.0, 4.0, 2.5, 0.8), (6.0, 7.0, 7.0, 2.0, 0.6), (2.0, -9.0, 5.0, 3.0, 0.5))


def projections(theta_degrees, *, center=CENTER, rows=ROWS, columns=COLUMNS):
    """float64 ``(view, row, column)`` of Gaussian balls: their ray sums are known in closed form."""
    theta = np.deg2rad(np.asarray(theta_degrees, np.float64))[:, None, None]
    z, column = np.arange(rows)[None, :, None], np.arange(columns)[None, None, :]
    images = np.zeros((theta.size, rows, columns))
    for x, y, height, radius, mass in BALLS:
        across = column - (center + x * np.cos(theta) + y * np.sin(theta))
        images += mass * np.exp(-(across**2 + (z - height) ** 2) / (2 * radius**2))
    return images


def fields():
    """Flats and darks ``(3, row, column)``, not even: three of each, whose means are known."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    dark = DARK + row % 3
    flat = dark + BEAM * (1 + 0.2 * np.cos(column / 9.0) + 0.01 * row)
    return np.stack([flat - 4, flat, flat + 4]), np.stack([dark - 1, dark, dark + 1])


def counts(theta_degrees, **how):
    """Counts of a detector, not rounded: after darks, flats and -log they are `projections`."""
    flats, darks = fields()
    return darks[1] + (flats[1] - darks[1]) * np.exp(-projections(theta_degrees, **how))


def write_data_exchange(path, theta_degrees, *, data=None, flats=True, darks=True, theta=True, **how):
    """A Data Exchange file; ``theta`` may be other numbers, or False for none."""
    flat, dark = fields()
    with h5py.File(path, "w") as file:
        file["exchange/data"] = (counts(theta_degrees, **how) if data is None else data).astype(np.float32)
        if flats is not False:
            file["exchange/data_white"] = flat if flats is True else flats
        if darks is not False:
            file["exchange/data_dark"] = dark if darks is True else darks
        if theta is not False:
            file["exchange/theta"] = np.asarray(theta_degrees if theta is True else theta, np.float64)
    return path


def write_tiffs(folder, theta_degrees, *, extra=0):
    """As Savu has it: a folder of projections, a flat, a dark and angles, ``extra`` more at either end."""
    flat, dark = fields()
    (folder / "tiffs").mkdir(parents=True)
    for number, image in enumerate(counts(theta_degrees)):
        tifffile.imwrite(folder / "tiffs" / f"raw_{number}.tiff", image.astype(np.float32))
    tifffile.imwrite(folder / "flat_1.tiff", flat[1].astype(np.float32))
    tifffile.imwrite(folder / "dark_1.tiff", dark[1].astype(np.float32))
    angles = [*[theta_degrees[0]] * extra, *theta_degrees, *[theta_degrees[-1]] * extra]
    (folder / "angles.txt").write_text("\n".join(f"{angle:.6f}" for angle in angles))
    return folder


def write_nexus(path, theta_degrees, *, key=None, control=None, angles=True):
    """NXtomo: flats, darks, projections, then flats and darks again, or as ``key`` says."""
    flat, dark = fields()
    if key is None:
        key = [1, 1, 1, 2, 2, 2, *[0] * len(theta_degrees), 1, 2]
    key = np.asarray(key)
    frames = np.empty((len(key), ROWS, COLUMNS), np.float32)
    frames[key == 1], frames[key == 2], frames[key == 3] = flat[1], dark[1], -1.0
    frames[key == 0] = counts(theta_degrees)
    rotation = np.zeros(len(key))
    rotation[key == 0] = theta_degrees
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        file["entry/instrument/detector/data"] = frames
        file["entry/instrument/detector/image_key"] = key
        if control is not None:
            file["entry/instrument/detector/image_key_control"] = control
        file["entry/instrument/detector/x_pixel_size"] = 6.5e-9
        file["entry/instrument/detector/x_pixel_size"].attrs["units"] = "m"
        sample = file.create_group("entry/sample")
        sample.attrs["NX_class"] = np.bytes_("NXsample")
        if angles:
            sample["rotation_angle"] = rotation
    return path
