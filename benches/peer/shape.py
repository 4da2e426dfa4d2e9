"""What both sides of the benchmark compute: sizes, prompts and the random checkpoint's layout."""

import json
from dataclasses import dataclass
from pathlib import Path

SPECIAL = ["<unk>", "<s>", "</s>", "<image>"]
FIXED = ["USER:", "ASSISTANT:", "describe", "context", "question", "which", "is", "better", "A", "B"]
BOS, EOS, IMAGE = 1, 2, 3


@dataclass(frozen=True)
class Size:
    """Shapes of one benchmark; `small` runs in minutes on two cores."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    tower_hidden: int
    tower_layers: int
    tower_heads: int
    frames: int
    samples: int
    answer: int
    context: int
    question: int = 16
    words: int = 32_000
    text: str = "llama"


SIZES = {
    "tiny": Size(64, 2, 2, 2, 160, 32, 2, 2, 2, 4, 8, 8),
    "small": Size(512, 8, 8, 8, 1376, 384, 6, 6, 8, 4, 64, 64),
    # For memory by process.
    "200m": Size(1024, 12, 16, 16, 2752, 384, 6, 6, 4, 4, 32, 32),
    "1b": Size(2048, 22, 32, 4, 5632, 1024, 24, 16, 8, 4, 64, 64),
    "7b": Size(4096, 32, 32, 32, 11008, 1024, 24, 16, 8, 4, 64, 64),
    # The language model of Qwen3-VL-8B, behind LLaVA's tower.
    "qwen3_8b": Size(4096, 36, 32, 8, 12288, 1024, 24, 16, 8, 4, 64, 64, words=151_936, text="qwen3"),
}
LARGE = ["1b", "7b", "qwen3_8b"]


def vocabulary(size: Size):
    """Word to id: every token is one word, so that texts keep their length when they are read again."""
    words = SPECIAL + FIXED
    words += [f"w{number}" for number in range(size.words - len(words))]
    return {word: number for number, word in enumerate(words)}


def question(sample: int, size: Size) -> str:
    return " ".join(f"w{100 + sample * size.question + word}" for word in range(size.question))


def load(folder: Path):
    """The benchmark's settings as `make.py` wrote them."""
    settings = json.loads((folder / "bench.json").read_text())
    return SIZES[settings["size"]], settings
