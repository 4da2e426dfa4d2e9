"""Kills processes of a run at random moments, continues it with another number of them, and compares what comes out.

    python benches/faults/kill_processes.py --isr target/release/isr --kills 100 [--out DIR] [--limit SECONDS]

Runs `configs/quickstart.toml`, made smaller, in 1 to 4 processes; after a random time a random one of them is killed
(SIGKILL) or stopped (SIGSTOP, which stands for a machine that hangs), and the same command continues. A run that has come
to its end is compared, byte for byte, with one of as many processes without faults. With `--vary` each command has another
number of processes; sums of gradients then differ by rounding, so the journals before the first training are compared with
those of one process byte for byte, and the weights after it within 1e-5. Prints, as JSON, the number of faults, of runs
that were compared, and how long the other processes took to end. Exits with 1 on a difference, or if a command hangs.
"""

import argparse
import array
import filecmp
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# They tell of a machine and a day.
MAY_DIFFER = {"provenance.json", "timings.jsonl", "report.html", ".lock"}
SMALLER = [
    "train.snapshot_every=2", "data.training_clips=120", "data.evaluation_clips=30",
]


def command(options, out, processes):
    iterations = f"loop.iterations={1 if options.vary else 2}"
    settings = [word for setting in [iterations, *SMALLER] for word in ("-s", setting)]
    data = options.out / "data"
    several = ["--processes", str(processes), "--process-timeout", str(options.limit)] if processes > 1 else []
    config = str(ROOT / "configs/quickstart.toml")
    return [str(options.isr), "-q", "run", config, *settings, "-s", f"data.dir={data}", "-o", str(out), *several]


def members(launcher, processes):
    """Ids of the processes that do the work."""
    if processes == 1:
        return [launcher.pid]
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    try:
        return [int(word) for word in children.read_text().split()]
    except OSError:
        return []


def files(folder):
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(name): path for name, path in found.items() if path.name not in MAY_DIFFER}


def weights(run):
    """Tensors of the first iteration's checkpoint, float32."""
    data = (run / "iteration-01/checkpoint/model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = array.array("f", data[8 + size + begin:8 + size + end])
    return tensors


def furthest(left, right):
    """The largest difference of a weight."""
    left, right = weights(left), weights(right)
    return max(abs(a - b) for name in left for a, b in zip(left[name], right[name]))


def differences(left, right, vary):
    apart = furthest(left, right) if vary else 0
    left, right = files(left), files(right)
    if vary:
        before = ["responses", "contexts", "verdicts", "pairs"]
        names = [f"iteration-01/{name}.jsonl" for name in before] + ["iteration-00/evaluation.jsonl"]
        left, right = ({name: found[name] for name in names if name in found} for found in (left, right))
        if apart > 1e-5:
            return [f"weights differ by {apart}"]
    changed = [name for name in left if name in right and not filecmp.cmp(left[name], right[name], shallow=False)]
    return sorted(set(left) ^ set(right)) + changed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isr", type=Path, required=True, help="the program")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("/dev/shm/isr-kills"), help="folder for the runs")
    parser.add_argument("--limit", type=int, default=3, help="seconds without a sign of life (--process-timeout)")
    parser.add_argument("--longest", type=float, default=12, help="longest time before a fault, in seconds")
    parser.add_argument("--stopped", type=float, default=0.2, help="share of the faults that stop a process instead")
    parser.add_argument("--vary", action="store_true", help="continue with another number of processes")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.isr = options.isr.resolve()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    draw = random.Random(options.seed)
    started = time.monotonic()

    def reference(processes):
        out = options.out / f"reference-{processes}"
        subprocess.run(command(options, out, processes), check=True, stdout=subprocess.DEVNULL)
        return out

    faults, compared, ends, messages = {"killed": 0, "stopped": 0}, 0, {"killed": [], "stopped": []}, set()
    run, processes = options.out / "run", 0
    while sum(faults.values()) < options.kills or run.exists():
        if options.vary or not run.exists():
            processes = draw.randint(1, 4)
        launcher = subprocess.Popen(
            command(options, run, processes), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            # The last run goes to its end.
            patience = None if sum(faults.values()) >= options.kills else draw.uniform(0.3, options.longest)
            code = launcher.wait(timeout=patience or 600)
        except subprocess.TimeoutExpired:
            victims = members(launcher, processes)
            if not victims:
                continue
            stops = processes > 1 and draw.random() < options.stopped
            kind = "stopped" if stops else "killed"
            victim = draw.choice(victims)
            begin = time.monotonic()
            try:
                os.kill(victim, signal.SIGSTOP if stops else signal.SIGKILL)
            except ProcessLookupError:
                pass
            if stops:
                # A machine that hangs takes its process with it in the end.
                waiting = time.monotonic() + 2 * options.limit + 5
                while time.monotonic() < waiting and len(living(members(launcher, processes), victim)) > 0:
                    time.sleep(0.05)
                ends[kind].append(time.monotonic() - begin)
                os.kill(victim, signal.SIGKILL)
            code = launcher.wait(timeout=120)
            if not stops and processes > 1:
                ends[kind].append(time.monotonic() - begin)
            faults[kind] += 1
            texts = launcher.stderr.read().splitlines()
            messages.update(text for text in texts if text.startswith("error"))
            if code == 0:
                print(f"ended before the fault: {texts}", file=sys.stderr)
        if code == 0:
            wanted = 1 if options.vary else processes
            differ = differences(reference(wanted), run, options.vary)
            if differ:
                print(json.dumps({"differ": differ, "run": str(run)}))
                return 1
            compared += 1
            shutil.rmtree(run)
        elif code not in (1, 130, -signal.SIGKILL):
            print(f"unexpected exit code {code}: {launcher.stderr.read()}", file=sys.stderr)
            return 1
        done = sum(faults.values())
        print(f"\r{done} faults, {compared} runs compared", end="", file=sys.stderr)
    print(file=sys.stderr)
    figures = {
        kind: {"median": statistics.median(times), "longest": max(times)} for kind, times in ends.items() if times
    }
    print(json.dumps({
        "faults": faults, "compared": compared, "limit": options.limit, "seconds_until_all_ended": figures,
        "messages": sorted(messages)[:12], "seconds": time.monotonic() - started,
    }, indent=2))
    return 0


def living(pids, victim):
    """Of these processes, those that run, without the one that is stopped."""
    return [pid for pid in pids if pid != victim and state(pid) not in ("Z", "X", None)]


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return None


if __name__ == "__main__":
    sys.exit(main())
