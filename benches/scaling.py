"""Runs one config in one process and in several in turn, and prints how many times as fast each stage is.

    python benches/peer/make.py FOLDER --size small --samples 16
    python benches/scaling.py FOLDER --isr target/release/isr --processes 2 --rounds 3 [-s KEY=VALUE ...]

Each process has one thread (`policy.threads = 1`, `OMP_NUM_THREADS=1`), so that several of them on as many cores are
compared with one on one core. Prints medians of wall-clock seconds by stage, their ratio, the share of the time in which
processes waited for the slowest, and the ratio that as many independent runs at once reach, each with all the work: what the
machine's memory and cores allow. With `--json` all of it as JSON. Stages that start while nothing is decoded yet (the
first to open the videos) hold decoding as well.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
from pathlib import Path


def command(isr, folder, run, processes, settings):
    shutil.rmtree(run, ignore_errors=True)
    several = ["--processes", str(processes)] if processes > 1 else []
    settings = ["policy.threads=1", "evaluation.base=false", *settings]
    settings = [word for setting in settings for word in ("-s", setting)]
    return [str(isr), "-q", "run", str(folder / "bench.toml"), "-o", str(run), *settings, *several]


def stages(isr, folder, processes, settings, copies=1):
    """Timings by stage; of several independent copies at once, those of the slowest."""
    runs = [folder / f"scaling-{processes}-{copy}" for copy in range(copies)]
    commands = [command(isr, folder, run, processes, settings) for run in runs]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    children = [subprocess.Popen(words, stdout=subprocess.DEVNULL, env=environment) for words in commands]
    if any([child.wait() for child in children]):
        raise SystemExit("a run failed")
    each = [timings_of(run) for run in runs]
    return {stage: max((timings[stage] for timings in each), key=lambda it: it["seconds"]) for stage in each[0]}


def timings_of(run):
    timings = [json.loads(line) for line in (run / "timings.jsonl").read_text().splitlines()]
    return {timing["stage"]: timing for timing in timings if timing["iteration"] == 1}


def waited(timing):
    """Share of the processes' time in which they waited for the slowest."""
    own = timing.get("processes")
    return 0.0 if not own else 1 - sum(own) / (len(own) * max(own))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what make.py made")
    parser.add_argument("--isr", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-s", "--set", action="append", default=[], help="KEY=VALUE of the config")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    isr, count = args.isr.resolve(), args.processes
    rounds = {1: [], count: [], "copies": []}
    for _ in range(args.rounds):
        for processes in (1, count):
            rounds[processes].append(stages(isr, args.folder, processes, args.set))
        rounds["copies"].append(stages(isr, args.folder, 1, args.set, copies=count))
    figures = {}
    for stage in rounds[1][0]:
        one, several, copies = (
            statistics.median(found[stage]["seconds"] for found in rounds[kind]) for kind in (1, count, "copies")
        )
        idle = statistics.median(waited(found[stage]) for found in rounds[args.processes])
        figures[stage] = {"one": one, "several": several, "ratio": one / several, "waited": idle, "copies": count * one / copies}
    if args.json:
        print(json.dumps({"processes": args.processes, "rounds": args.rounds, "stages": figures}, indent=2))
        return
    print(f"{'stage':<12} {'1 process':>10} {args.processes:>3} processes  ratio  waited  copies")
    for stage, found in figures.items():
        seconds = f"{found['one']:>8.2f} s {found['several']:>11.2f} s"
        print(f"{stage:<12} {seconds}  {found['ratio']:>5.2f}  {found['waited']:>6.1%}  {found['copies']:>6.2f}")


if __name__ == "__main__":
    main()
