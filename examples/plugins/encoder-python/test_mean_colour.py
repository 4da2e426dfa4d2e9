"""Tests of the encoder: `python -m pytest`, with the package isr_plugin on the path."""

import struct

from isr_plugin import Video
from mean_colour import MeanColour


def test_cells_have_their_own_means(tmp_path):
    red, blue = bytes([255, 0, 0]), bytes([0, 0, 255])
    file = tmp_path / "frames.rgb"
    file.write_bytes((red + blue) * 2)
    video = Video("a.mp4", str(file), (1, 2, 2, 3), [0.0], 1.0, "frames")
    shape, _, raw = MeanColour({"grid": 2}).encode(video)
    assert shape == (1, 4, 3)
    assert struct.unpack("<12f", raw) == (1, 0, 0, 0, 0, 1) * 2
    assert MeanColour({"grid": 1}).encode(video)[2] == struct.pack("<3f", 0.5, 0, 0.5)
