"""Measures the memory of each process of a training against the estimate of `isr inspect`.

    python benches/peer/make.py FOLDER --size 200m --samples 8
    python benches/peer/make.py TINY --size tiny --samples 8
    python benches/memory.py FOLDER TINY --isr target/release/isr --processes 2 4 [--shard full] [--preload LIBJEMALLOC]

Runs an iteration on a CPU and prints the peak of each process's anonymous memory, less the peak of the same run with the tiny
model: the rest of the program. isr lets glibc's allocator keep what is freed, which on a CPU leaves memory in pieces;
`--preload` of jemalloc (Debian: libjemalloc2), which gives it back at once, shows what is in use.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

# The text of a sequence, question and answer, and the pairs of a micro-batch.
TOKENS, PAIRS = 64, 1


def peaks(isr, folder, processes, shard, preload):
    """Peak of anonymous memory in bytes, by process."""
    run = folder / "memory"
    shutil.rmtree(run, ignore_errors=True)
    settings = ["policy.threads=1", "evaluation.base=false", f"policy.training.micro_batch={PAIRS}",
                "policy.training.gradient_checkpointing=true", f"policy.training.parallel.shard={shard}"]
    command = [str(isr), "-q", "run", str(folder / "bench.toml"), "-o", str(run), "--processes", str(processes)]
    command += [word for setting in settings for word in ("-s", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if preload:
        environment |= {"LD_PRELOAD": preload, "MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0,narenas:1"}
    launcher = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    found = {}
    while launcher.poll() is None:
        for process in members(launcher.pid):
            found[process] = max(found.get(process, 0), anonymous(process))
        time.sleep(0.005)
    if launcher.returncode:
        raise SystemExit(f"isr ended with {launcher.returncode}")
    # FFmpeg and others that it started are small.
    return sorted(found.values(), reverse=True)[:processes]


def members(pid):
    """The processes of a group; of one process, that itself."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] or [pid]
    except OSError:
        return []


def anonymous(pid):
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def estimate(isr, folder, processes, shard):
    command = [str(isr), "inspect", str(folder / "model"), "--json", "--precision", "float32", "--batch", str(PAIRS)]
    command += ["--tokens", str(TOKENS), "--frames", "4", "--width", "320", "--height", "240"]
    command += ["--processes", str(processes), "--shard", shard]
    memory = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["memory"]
    return memory["full_checkpointing"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what make.py made")
    parser.add_argument("tiny", type=Path, help="the same of --size tiny")
    parser.add_argument("--isr", type=Path, required=True)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--shard", default="full", choices=["none", "optimizer", "full"])
    parser.add_argument("--preload", help="library of another allocator")
    args = parser.parse_args()
    isr = args.isr.resolve()
    print(f"{'processes':>9} {'peak':>9} {'of tiny':>9} {'model':>9} {'estimate':>9}  ratio")
    for count in args.processes:
        peak, rest = (max(peaks(isr, folder, count, args.shard, args.preload)) for folder in (args.folder, args.tiny))
        expected = estimate(isr, args.folder, count, args.shard)
        figures = " ".join(f"{value / 1e9:>6.2f} GB" for value in (peak, rest, peak - rest, expected))
        print(f"{count:>9} {figures}  {(peak - rest) / expected:>5.2f}", flush=True)


if __name__ == "__main__":
    main()
