"""Videos and features, as files of raw numbers in a folder that isr shares with the process."""

import itertools
import math
import mmap
import os
from dataclasses import dataclass, field
from typing import List, Optional, Tuple

ELEMENT_BYTES = {"f32": 4, "bf16": 2}
_TYPES = {"float32": "f32", "f32": "f32", "bfloat16": "bf16", "bf16": "bf16"}


def _numpy():
    """numpy where it is installed; without it, there are memoryviews of the same shapes."""
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def mapped(file, shape, element_bytes=1):
    """The bytes of a file, mapped into memory and read-only. A ValueError where its size is not that of the shape."""
    with open(file, "rb") as opened:
        expected, found = math.prod(shape) * element_bytes, os.fstat(opened.fileno()).st_size
        if found != expected:
            raise ValueError(f"{file} has {found} bytes, not the {expected} of the shape {list(shape)}")
        return memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))


@dataclass
class Features:
    """An encoder's features of a video: `shape` is (frames, tokens, dim), `dtype` `"f32"` or `"bf16"`; `encoder` names
    the weights that computed them."""
    file: str
    shape: Tuple[int, int, int]
    dtype: str
    encoder: str = ""

    def array(self):
        """The numbers as float32 of `shape`: a numpy array, or without numpy a memoryview. Read-only."""
        raw = mapped(self.file, self.shape, ELEMENT_BYTES[self.dtype])
        if self.dtype == "bf16":  # the upper halves of float32
            wide = bytearray(2 * len(raw))
            wide[2::4], wide[3::4] = raw[0::2], raw[1::2]
            raw = memoryview(bytes(wide))
        numpy = _numpy()
        if numpy is not None:
            return numpy.frombuffer(raw, dtype="<f4").reshape(self.shape)
        return raw.cast("f", shape=list(self.shape))


@dataclass
class Video:
    """A video of a call: its name in journals, the file of its frames, whose `shape` is (frames, height, width, 3), the
    time of each frame and the clip's duration in seconds. `key` is a digest of the frames: what is computed from one
    may be kept by it. `features` are those of the run's encoder, where it has one."""
    video: str
    file: str
    shape: Tuple[int, int, int, int]
    timestamps: List[float]
    duration: float
    key: str
    features: Optional[Features] = field(default=None)

    def pixels(self):
        """The frames, uint8 RGB of `shape`, mapped and read-only: a numpy array, or without numpy a memoryview."""
        raw = mapped(self.file, self.shape)
        numpy = _numpy()
        if numpy is not None:
            return numpy.frombuffer(raw, dtype=numpy.uint8).reshape(self.shape)
        return raw.cast("B", shape=list(self.shape))


def read_video(folder, params):
    """A video of a message, whose files lie in `folder`."""
    frames, features = params["frames"], params.get("features")
    if features is not None:
        features = Features(os.path.join(folder, features["file"]), tuple(features["shape"]), features["dtype"],
                            features.get("encoder", ""))
    return Video(params.get("video", ""), os.path.join(folder, frames["file"]), tuple(frames["shape"]),
                 params["timestamps"], params["duration"], os.path.splitext(frames["file"])[0], features)


_numbers = itertools.count(1)


def write_features(folder, value):
    """Writes what an encoder returns into `folder`; returns its message."""
    if isinstance(value, tuple) and len(value) == 3:
        shape, dtype, raw = value
    elif all(hasattr(value, name) for name in ("shape", "dtype", "tobytes")):
        shape, dtype, raw = value.shape, value.dtype, value.tobytes()
    else:
        raise ValueError(f"encode returned {value!r:.80} ({type(value).__name__}), neither an array with `shape`, "
                         "`dtype` and `tobytes` nor (shape, dtype, bytes)")
    shape, kind = [int(extent) for extent in shape], _TYPES.get(str(dtype).rpartition(".")[2])
    if kind is None:
        raise ValueError(f"encode returned numbers of type {dtype}, not float32")
    expected = math.prod(shape) * ELEMENT_BYTES[kind]
    if len(shape) != 3 or expected == 0 or len(raw) != expected:
        raise ValueError(f"encode returned {len(raw)} bytes of shape {shape}, not [frames, tokens, dim] of {dtype}")
    name = f"{os.getpid()}-{next(_numbers)}.out"
    with open(os.path.join(folder, name), "xb") as file:
        file.write(raw)
    return {"file": name, "shape": shape, "dtype": kind}
