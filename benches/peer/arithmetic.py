"""Floating-point operations that the exact algorithm needs, stage by stage; a multiply-add counts two.

Each video is encoded once, its prompt's beginning read once, everything else read or written once; training
reads a prompt once for both answers, and its backward pass costs twice its forward pass.
"""

from shape import Size

PATCHES = 256


def linear(size: Size) -> float:
    """Of one token in all decoder layers, without attention itself."""
    kv = size.hidden * size.kv_heads // size.heads
    return 2 * size.layers * (2 * size.hidden**2 + 2 * size.hidden * kv + 3 * size.hidden * size.intermediate)


def attention(size: Size, past: int, new: int) -> float:
    """Of `new` tokens behind `past`: scores and weighted sums over what each of them sees."""
    seen = new * past + new * (new + 1) / 2
    return 4 * size.layers * size.hidden * seen


def read(size: Size, past: int, new: int) -> float:
    return new * linear(size) + attention(size, past, new)


def head(size: Size, tokens: int) -> float:
    return 2 * tokens * size.hidden * size.words


def tower(size: Size, frames: int) -> float:
    tokens = PATCHES + 1
    layer = 2 * tokens * 12 * size.tower_hidden**2 + 4 * tokens**2 * size.tower_hidden
    # Features are those before the last layer.
    return frames * ((size.tower_layers - 1) * layer + 2 * PATCHES * 3 * 14 * 14 * size.tower_hidden)


def decode_bytes(size: Size, frames: int, width: int) -> tuple:
    """What a step of decoding has to read: all weights, and of each sequence its keys and values halfway."""
    kv = size.hidden * size.kv_heads // size.heads
    weights = linear(size) / 2 + size.hidden * size.words
    tokens = 1 + frames * PATCHES + size.context / 2
    return width * weights, width * 2 * size.layers * kv * tokens


def train_tokens(size: Size, settings: dict) -> int:
    """Tokens of all pairs, a prompt once."""
    return settings["samples"] * (1 + settings["frames"] * PATCHES + size.question + 1 + 2 * size.answer)


def needed(size: Size, settings: dict) -> dict:
    """By stage, of all samples."""
    frames, samples = settings["frames"], settings["samples"]
    video = 1 + frames * PATCHES
    project = 2 * frames * PATCHES * (size.tower_hidden * size.hidden + size.hidden**2)
    asked, described = size.question + 1, 2
    judged = size.context + size.question + 2 * size.answer + 7
    answer, context = size.answer, size.context
    respond = read(size, 0, video) + read(size, video, asked)
    respond += 2 * (read(size, video + asked, answer - 1) + head(size, answer))
    trunk = read(size, 0, video + asked)
    branches = 2 * (read(size, video + asked, answer - 1) + head(size, answer))
    stages = {
        "respond": tower(size, frames) + project + respond,
        "retrospect": read(size, video, described) + read(size, video + described, context - 1) + head(size, context),
        "judge": 2 * (read(size, video, judged) + head(size, 1)),
        # The projector is frozen: projecting again is all that it takes.
        "train": project + 3 * (trunk + branches),
    }
    return {stage: samples * work for stage, work in stages.items()}
