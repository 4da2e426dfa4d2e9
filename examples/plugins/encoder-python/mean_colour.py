"""An encoder without a model: the mean colour of each cell of a grid over each frame."""

import struct

from isr_plugin import Encoder


class MeanColour(Encoder):
    """Encodes a frame as the mean colours of the cells of a grid: `grid` * `grid` tokens of 3 numbers from 0 to 1."""

    version = "0.1.0"
    defaults = {"grid": 2}

    def setup(self):
        self.grid = self.settings["grid"]
        if self.grid < 1:
            raise ValueError(f"grid is {self.grid}; it must be at least 1")

    def fingerprint(self):
        return f"mean_colour {self.version} {self.grid}"

    def encode(self, video):
        frames, height, width, _ = video.shape
        pixels = memoryview(video.pixels()).cast("B")
        rows, columns = self.cells(height), self.cells(width)
        means = []
        for frame in range(frames):
            for top, bottom in rows:
                for left, right in columns:
                    totals = [0, 0, 0]
                    for y in range(top, bottom):
                        line = ((frame * height) + y) * width
                        row = pixels[3 * (line + left):3 * (line + right)]
                        for channel in range(3):
                            totals[channel] += sum(row[channel::3])
                    count = 255 * (bottom - top) * (right - left)
                    means.extend(total / count for total in totals)
        shape = (frames, len(rows) * len(columns), 3)
        return shape, "f32", struct.pack(f"<{len(means)}f", *means)

    def cells(self, extent):
        """Beginning and end of each cell; those of a frame that is smaller than the grid overlap."""
        starts = [min(index * extent // self.grid, extent - 1) for index in range(self.grid)]
        ends = [(index + 1) * extent // self.grid for index in range(self.grid)]
        return [(start, max(end, start + 1)) for start, end in zip(starts, ends)]
