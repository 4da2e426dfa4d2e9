"""The loop in two processes that the real torchrun starts."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BEFORE_TRAINING = ["responses.jsonl", "contexts.jsonl", "verdicts.jsonl", "pairs.jsonl"]
SMALL = ["loop.iterations=1", "data.training_clips=24", "data.evaluation_clips=8"]


def command(isr, folder, out):
    settings = [word for setting in [*SMALL, f"data.dir={folder / 'data'}"] for word in ("-s", setting)]
    return [isr, "-q", "run", str(ROOT / "configs/quickstart.toml"), *settings, "-o", str(folder / out)]


@pytest.fixture(scope="module")
def one(isr, tmp_path_factory):
    """A run of one process."""
    folder = tmp_path_factory.mktemp("processes")
    subprocess.run(command(isr, folder, "one"), check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return folder


def journals(run):
    names = [f"iteration-01/{name}" for name in BEFORE_TRAINING] + ["iteration-00/evaluation.jsonl"]
    return {name: (run / name).read_bytes() for name in names}


def test_torchrun_starts_a_run(isr, one):
    torchrun = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python",
    ]
    subprocess.run([*torchrun, *command(isr, one, "torchrun")], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    assert journals(one / "torchrun") == journals(one / "one")
    assert '"processes":[' in (one / "torchrun/timings.jsonl").read_text()


def test_torchrun_restarts_a_run_that_lost_a_process(isr, one):
    """A process that dies in the first iteration: the second attempt of torchrun goes on."""
    script, first, killed = one / "dies_once.sh", one / "restarted/iteration-01", one / "killed"
    script.write_text(
        '#!/bin/sh\n'
        'if [ "$RANK" = 1 ] && [ "$TORCHELASTIC_RESTART_COUNT" = 0 ]; then\n'
        f'  (while [ ! -d {first} ]; do sleep 0.02; done; kill -9 $$ && touch {killed}) &\n'
        'fi\n'
        'exec "$@"\n'
    )
    script.chmod(0o755)
    torchrun = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python",
        "--max-restarts", "2", str(script),
    ]
    subprocess.run([*torchrun, *command(isr, one, "restarted")], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    assert killed.exists()
    assert journals(one / "restarted") == journals(one / "one")
