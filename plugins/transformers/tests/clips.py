"""Pseudo-videos by the formula of tests/golden, as files of an exchange folder, and requests with them."""

import numpy
from isr_plugin import Continuation, GenerateRequest, Message, Sampling, ScoreRequest, Sequence, Video


def frames_of(frames, height, width, seed):
    t, y, x, c = numpy.meshgrid(*[numpy.arange(n) for n in (frames, height, width, 3)], indexing="ij")
    value = x * 3 + y * 5 + t * 17 + c * 53 + seed * 29 + ((x * y) >> 3) * 7 + ((x ^ y) * (t + 1 + seed))
    return (value % 256).astype(numpy.uint8)


class Clips:
    def __init__(self, folder):
        self.folder = folder

    def video(self, seed=0, frames=4, height=56, width=84, fps=2.0):
        key = f"{seed}-{frames}-{height}-{width}"
        file = self.folder / f"{key}.rgb"
        pixels = frames_of(frames, height, width, seed)
        pixels.tofile(file)
        return Video(f"{key}.mp4", str(file), pixels.shape, [n / fps for n in range(frames)], frames / fps, key)


def asked(video, text="What happens?"):
    return [Message("user", [text] if video is None else [video, text])]


def generate(prompt, n=2, seed=1, request=GenerateRequest, **sampling):
    return request(prompt, Sampling(**{"max_new_tokens": 6, **sampling}), n, seed)


def score(prompt, *continuations):
    return ScoreRequest(prompt, [continuation(it) for it in continuations])


def sequence(prompt, text):
    return Sequence(prompt, continuation(text))


def continuation(it):
    return Continuation("tokens", token_ids=list(it)) if isinstance(it, (list, tuple)) else Continuation("answer", text=it)
