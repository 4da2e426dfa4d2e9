"""Groups of processes under PyTorch's own launcher."""

import re
import subprocess
import sys

import pytest
from conftest import built

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--no-python"]


@pytest.fixture(scope="module")
def process_group():
    """The example of isr-torch that joins a group and prints what it sees."""
    return built("example", "process_group")


@pytest.mark.parametrize("processes", [1, 3])
def test_torchrun_starts_a_group_whose_store_its_agent_keeps(process_group, processes):
    command = [*TORCHRUN, f"--nproc-per-node={processes}", "--standalone", process_group]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    lines = re.findall(r"rank (\d+) sees ([\d ]+) and process (\d+), and took (\d+)", ended.stdout)
    ranks, seen, first, numbers = zip(*lines)
    expected = [str(rank) for rank in range(processes)]
    assert sorted(ranks) == expected and sorted(numbers) == expected
    assert set(seen) == {" ".join(expected)} and len(set(first)) == 1


def test_a_restarted_group_does_not_meet_its_former_attempt(process_group):
    # The first attempt of rank 1 ends before it joins.
    script = f'[ "$RANK.$TORCHELASTIC_RESTART_COUNT" = 1.0 ] && exit 7; exec {process_group}'
    command = [*TORCHRUN, "--nproc-per-node=2", "--standalone", "--max-restarts=1", "sh", "-c", script]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert len(re.findall(r"rank \d sees 0 1 ", ended.stdout)) == 2, ended.stdout
