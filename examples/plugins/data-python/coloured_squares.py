"""Samples that are made when they are needed: pictures of a square, with a question about it."""

import os
import struct
import zlib

from isr_plugin import Data, Sample

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220), "yellow": (230, 210, 50)}
SIDE = 64


class ColouredSquares(Data):
    """Pictures of a square on a grey ground, drawn into a folder beside the plugin's file; the question is what colour it
    has."""

    version = "0.1.0"
    defaults = {"training": 24, "evaluation": 8, "folder": "pictures"}

    def setup(self):
        if not self.settings["training"] > 0:
            raise ValueError(f"training is {self.settings['training']}; it must be more than 0")

    def training(self):
        return self.samples("training")

    def evaluation(self):
        return self.samples("evaluation")

    def audit(self):
        """What is known of the training samples, by which judges are measured."""
        return self.samples("training")

    def samples(self, split):
        here = os.path.dirname(os.path.abspath(__file__))
        for number in range(self.settings[split]):
            colour = list(COLOURS)[number % len(COLOURS)]
            # A relative path is looked for beside this file.
            path = os.path.join(self.settings["folder"], f"{split}-{number}.png")
            draw(os.path.join(here, path), COLOURS[colour], number)
            yield Sample(f"{split}-{number}", path, "what colour is the square?", f"the square is {colour}.",
                         facts={"colour": colour})


def draw(path, colour, number):
    """Writes a picture, unless it is there."""
    if os.path.exists(path):
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    left, top = 4 + number * 7 % 36, 4 + number * 11 % 36
    def pixel(x, y):
        return colour if left <= x < left + 20 and top <= y < top + 20 else (128, 128, 128)
    rows = [bytes([0, *(value for x in range(SIDE) for value in pixel(x, y))]) for y in range(SIDE)]
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    # Aside and renamed: a picture is whole or not there.
    with open(path + ".part", "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows)))
                   + chunk(b"IEND", b""))
    os.replace(path + ".part", path)
