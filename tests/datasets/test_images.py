from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mithridate.datasets.images import decoded, pixels
from mithridate.errors import DataError
from tests.datasets.generated import images, png


def encoded(*pictures):
    return [(f"row {row}", each if isinstance(each, bytes) else png(each)) for row, each in enumerate(pictures)]


def read(*pictures, size=None, colour="auto"):
    return decoded(encoded(*pictures), len(pictures), size=size, colour=colour)


def saved(image, kind="PNG"):
    packed = io.BytesIO()
    image.save(packed, kind)
    return packed.getvalue()


def claiming(width, height):
    """A PNG whose header claims a size that its few bytes do not hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 3])
def test_decodes_every_pixel(channels):
    pictures = images(4, channels=channels)
    assert np.array_equal(read(*pictures), pictures)


def test_grey_images_among_coloured_ones_get_three_equal_channels():
    grey, colour = images(2, channels=1), images(2)
    for order in ((grey[0], colour[0], grey[1]), (colour[0], grey[0], grey[1])):
        expected = np.stack([each.repeat(3, axis=0) if len(each) == 1 else each for each in order])
        assert np.array_equal(read(*order), expected)


def test_colour_settles_the_channels():
    assert read(*images(2), colour="grey").shape == (2, 1, 4, 5)
    assert read(*images(2, channels=1), colour="rgb").shape == (2, 3, 4, 5)


@pytest.mark.parametrize(("mode", "channels"), [("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3), ("CMYK", 3)])
def test_other_modes_are_converted(mode, channels):
    image = Image.fromarray(images(1)[0].transpose(1, 2, 0)).convert(mode)
    assert pixels(saved(image, "TIFF"), "here").shape == (channels, 4, 5)


@pytest.mark.parametrize("mode", ["I;16", "F", "I"])
def test_refuses_more_than_eight_bits(mode):
    with pytest.raises(DataError, match=r"here: images must have 8 bits a channel, but this one has mode"):
        pixels(saved(Image.new(mode, (3, 3)), "TIFF"), "here")


def test_resizes_to_a_square():
    assert read(images(1)[0], images(1, height=9)[0], size=6).shape == (2, 3, 6, 6)


def test_a_flat_image_stays_flat_when_resized():
    assert (read(np.full((3, 4, 5), 77, dtype=np.uint8), size=8) == 77).all()


def test_names_the_image_of_another_size():
    with pytest.raises(DataError, match=r"row 1: this image is 5 x 7 pixels, but the first one is 5 x 4; .* give size"):
        read(images(1)[0], images(1, height=7)[0])


@pytest.mark.parametrize(
    "data",
    [b"", b"no image", png(images(1)[0])[:60], png(images(1)[0], "TGA"), png(images(1)[0], "EPS")],
    ids=["empty", "text", "cut short", "TGA", "EPS"],
)
def test_refuses_what_is_no_image(data):
    with pytest.raises(DataError, match=rf"row 1: its {len(data)} bytes cannot be decoded as an image \(allowed: PNG"):
        read(images(1)[0], data)


@pytest.mark.parametrize(("width", "height"), [(5000, 5000), (12000, 12000), (60000, 60000)])
def test_refuses_oversized_images_before_they_are_unpacked(width, height):
    with pytest.raises(DataError, match=r"row 0: this image has .* pixels; at most 16777216 pixels are decoded"):
        read(claiming(width, height))


def test_refuses_a_set_that_fills_the_memory():
    with pytest.raises(DataError, match=r"100000 images of 786432 bytes are more than"):
        decoded(encoded(np.zeros((3, 512, 512), dtype=np.uint8)), 100_000, size=None, colour="auto")


def test_refuses_fewer_images_than_labels():
    with pytest.raises(DataError, match="3 images were expected, but there are 2; the last one is row 1"):
        decoded(encoded(*images(2)), 3, size=None, colour="auto")
