"""What all tests need: the package and isr's module for plugins, torchvision, one thread."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
# `cargo xtask test --python` puts torchvision beside the packages of its environment, where other tests do not see it.
BESIDE = Path(sys.prefix) / "torchvision"
sys.path[:0] = [str(HERE), str(HERE.parent)]
sys.path += [str(ROOT / "plugins" / "python"), str(BESIDE)]

import torch

torch.set_num_threads(1)
try:
    import torchvision
except RuntimeError:
    # Its compiled operators need CUDA's libraries, which that environment leaves out. The transforms that video
    # processors use are Python; the import fails on the first operator alone, which is declared here.
    OPERATORS = torch.library.Library("torchvision", "DEF")
    OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    import torchvision

import pytest

import checkpoints
import clips
from isr_transformers import Transformers


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The checkpoint of a family: one of tests/golden, or made once."""
    made = {}

    def of(family):
        if family not in made:
            golden = ROOT / "tests" / "golden" / f"tiny_{family}"
            made[family] = golden if golden.is_dir() else checkpoints.make(family, tmp_path_factory.mktemp(family))
        return str(made[family])

    return of


@pytest.fixture
def policy(folder):
    """A new policy on a family's checkpoint."""
    def of(family, **settings):
        return Transformers({"model": folder(family), "attention": "eager", **settings})

    return of


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    """A pseudo-video of a seed, as isr hands it over."""
    return clips.Clips(tmp_path_factory.mktemp("exchange")).video
