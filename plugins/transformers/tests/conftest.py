"""What all tests need."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from environment import HERE, ROOT

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
