from dataclasses import replace

import mrcfile
import numpy as np
import pytest

from manyviews.errors import InputError
from manyviews.io.mrc import write_mrc
from manyviews.io.particle_images import ParticleImages, write_particle_stack
from manyviews.io.particle_table import OpticsGroup, table_of_stack

OPTICS = OpticsGroup("a", 300.0, 2.7, 0.1, 1.5)


@pytest.fixture
def two_stacks(tmp_path, rng):
    """A table of seven particles over two stacks, out of order, and their images."""
    images = rng.normal(size=(7, 8, 8)).astype(np.float32)
    write_mrc(tmp_path / "a.mrcs", images[:4], 1.5, is_volume=False)
    write_mrc(tmp_path / "b.mrc", images[4:], 1.5, is_volume=False)
    order = rng.permutation(7)
    table = replace(
        table_of_stack(tmp_path / "a.mrcs", OPTICS, np.zeros((7, 2))),
        stacks=(tmp_path / "a.mrcs", tmp_path / "b.mrc"),
        stack_names=("a.mrcs", "b.mrc"),
        stack_index=(order >= 4).astype(np.int64),
        section=np.where(order >= 4, order - 4, order),
    )
    return table, images[order]


def test_images_come_in_the_order_asked_for(two_stacks):
    table, truth = two_stacks
    images = ParticleImages(table)
    assert images.shape == (7, 8, 8)
    assert (images.box, images.pixel_size, len(images)) == (8, 1.5, 7)
    np.testing.assert_array_equal(images.read(), truth)
    np.testing.assert_array_equal(images.read([5, 0, 5, 3]), truth[[5, 0, 5, 3]])
    assert images.read(2).shape == (1, 8, 8)
    assert images.read([]).shape == (0, 8, 8)
    with pytest.raises(InputError, match="not among the 7"):
        images.read([7])


def test_blocks_cover_every_particle_once(two_stacks, monkeypatch):
    from manyviews.io import particle_images

    monkeypatch.setattr(particle_images, "_BLOCK_BYTES", 3 * 4 * 64)
    table, truth = two_stacks
    seen = []
    for particles, block in ParticleImages(table).blocks():
        assert len(block) <= 3
        np.testing.assert_array_equal(block, truth[particles])
        seen += particles.tolist()
    assert sorted(seen) == list(range(7))


def test_dark_protein_is_turned_white(two_stacks):
    table, truth = two_stacks
    signs = np.array([1, -1, 1, 1, -1, 1, 1])
    images = ParticleImages(replace(table, contrast_sign=signs)).read([4, 3, 1])
    np.testing.assert_array_equal(images, truth[[4, 3, 1]] * np.array([-1, 1, -1])[:, None, None])


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float16, np.float32])
def test_every_pixel_type_is_read(tmp_path, dtype):
    values = np.arange(2 * 36).reshape(2, 6, 6).astype(dtype)
    with mrcfile.new(tmp_path / "a.mrcs") as stack:
        stack.set_data(values)
        stack.set_image_stack()
    table = table_of_stack(tmp_path / "a.mrcs", OPTICS, np.zeros((2, 2)))
    images = ParticleImages(table).read()
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, values.astype(np.float32))


def test_broken_images_are_named_unless_they_may_be(tmp_path, rng):
    images = rng.normal(size=(5, 6, 6)).astype(np.float32)
    path = tmp_path / "a.mrcs"
    write_mrc(path, images, 1.5, is_volume=False)
    table = table_of_stack(path, OPTICS, np.zeros((5, 2))).select([4, 3, 2, 1, 0])
    with open(path, "r+b") as handle:
        handle.seek(1024 + 2 * 144 + 8)
        handle.write(np.float32(np.nan).tobytes())
    with pytest.raises(InputError, match=r"particle 3 \(000003@a.mrcs\) has pixels that are NaN"):
        ParticleImages(table).read([0, 2])
    ((particles, block),) = ParticleImages(table).blocks([0, 2], finite=False)
    assert list(particles) == [2, 0]
    assert np.count_nonzero(np.isnan(block[0])) == 1
    np.testing.assert_array_equal(block[1], images[4])


def test_sizes_that_differ_and_sections_that_are_not_there_are_refused(tmp_path, two_stacks):
    table, _ = two_stacks
    with pytest.raises(InputError, match=r"particle 1 \(000010@.*was asked for but the stack has"):
        ParticleImages(replace(table, section=np.array([9, 0, 0, 0, 0, 0, 0])))
    other = (OPTICS, replace(OPTICS, name="b", pixel_size=2.0))
    with pytest.raises(InputError, match="different pixel sizes"):
        ParticleImages(replace(table, optics=other, optics_index=np.arange(7) % 2))
    write_mrc(tmp_path / "b.mrc", np.zeros((3, 6, 6), np.float32), 1.5, is_volume=False, overwrite=True)
    with pytest.raises(InputError, match="6 x 6 pixels but those of"):
        ParticleImages(table)
    (tmp_path / "b.mrc").unlink()
    with pytest.raises(InputError, match="cannot be read"):
        ParticleImages(table)
    # A stack that no particle uses may be gone.
    assert len(ParticleImages(table.select(table.stack_index == 0)).read()) == 4


def test_a_stack_that_shrinks_while_it_is_read_is_told(tmp_path):
    path = tmp_path / "a.mrcs"
    write_mrc(path, np.ones((3, 6, 6), np.float32), 1.5, is_volume=False)
    images = ParticleImages(table_of_stack(path, OPTICS, np.zeros((3, 2))))
    with open(path, "r+b") as handle:
        handle.truncate(1100)
    with pytest.raises(InputError, match="cannot be read any more"):
        images.read([2])


def test_stacks_are_written_block_by_block(tmp_path, rng):
    images = rng.normal(size=(5, 6, 6))
    path = tmp_path / "a.mrcs"
    write_particle_stack(path, (images[i : i + 2] for i in (0, 2, 4)), 5, 2.5)
    with mrcfile.open(path) as stack:
        assert stack.is_image_stack()
        assert stack.header.mode == 2
        assert float(stack.voxel_size.x) == pytest.approx(2.5)
        np.testing.assert_array_equal(stack.data, images.astype(np.float32))
    table = table_of_stack(path, OPTICS, np.zeros((5, 2)))
    np.testing.assert_array_equal(ParticleImages(table).read(), images.astype(np.float32))
    write_particle_stack(tmp_path / "h.mrcs", [images.astype(np.float16)], 5, 2.5)
    assert mrcfile.read(tmp_path / "h.mrcs").dtype == np.float16


def test_stacks_that_are_not_whole_never_appear(tmp_path):
    path, block = tmp_path / "a.mrcs", np.zeros((2, 6, 6))
    for blocks, words in (
        ([], "no images"),
        ([block], "2 of 3"),
        ([block, block], "more than 3"),
        ([block, np.zeros((1, 5, 6))], "does not fit"),
    ):
        with pytest.raises(InputError, match=words):
            write_particle_stack(path, blocks, 3, 2.5)
        assert not path.exists()
    write_particle_stack(path, [block], 2, 2.5)
    with pytest.raises(InputError, match="exists already"):
        write_particle_stack(path, [block], 2, 2.5)
