"""Runs one config in one process and in several in turn, and prints how many times as fast each stage is.

    python benches/peer/make.py FOLDER --size small --samples 16
    python benches/scaling.py FOLDER --isr target/release/isr --processes 2 --rounds 3 [-s KEY=VALUE ...]

Each process has one thread (`policy.threads = 1`, `OMP_NUM_THREADS=1`), so that several of them on as many cores are
compared with one on one core. Prints medians of wall-clock seconds by stage, their ratio, the share of the time in which
processes waited for the slowest, and with `--json` all of it as JSON. Stages that start while nothing is decoded yet (the
first to open the videos) hold decoding as well.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
from pathlib import Path


def stages(isr, folder, processes, settings):
    run = folder / f"scaling-{processes}"
    shutil.rmtree(run, ignore_errors=True)
    several = ["--processes", str(processes)] if processes > 1 else []
    settings = ["policy.threads=1", "evaluation.base=false", *settings]
    settings = [word for setting in settings for word in ("-s", setting)]
    command = [str(isr), "-q", "run", str(folder / "bench.toml"), "-o", str(run), *settings, *several]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
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
    rounds = {1: [], args.processes: []}
    for _ in range(args.rounds):
        for processes, found in rounds.items():
            found.append(stages(args.isr.resolve(), args.folder, processes, args.set))
    figures = {}
    for stage in rounds[1][0]:
        one, several = (
            statistics.median(found[stage]["seconds"] for found in rounds[count]) for count in (1, args.processes)
        )
        idle = statistics.median(waited(found[stage]) for found in rounds[args.processes])
        figures[stage] = {"one": one, "several": several, "ratio": one / several, "waited": idle}
    if args.json:
        print(json.dumps({"processes": args.processes, "rounds": args.rounds, "stages": figures}, indent=2))
        return
    print(f"{'stage':<12} {'1 process':>10} {args.processes:>3} processes  ratio  waited")
    for stage, found in figures.items():
        print(f"{stage:<12} {found['one']:>8.2f} s {found['several']:>11.2f} s  {found['ratio']:>5.2f}  {found['waited']:>5.1%}")


if __name__ == "__main__":
    main()
