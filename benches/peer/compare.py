"""Runs our iteration and the peers' in turn, and prints medians and ratios.

    python benches/peer/compare.py FOLDER --isr target/release/isr --rounds 3

Every round runs each side once, in the same order, on the same checkpoint, videos and lengths; `FOLDER` is
what `make.py` made. Writes `FOLDER/result.json`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from arithmetic import decode_bytes, needed, train_tokens
from shape import load

HERE = Path(__file__).parent
STAGES = ["encode", "respond", "retrospect", "judge", "reference", "train"]


def measured(command):
    """Standard output, seconds and peak memory in MiB of a command."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = child.communicate()
    if child.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{err[-4000:]}")
    return out, time.perf_counter() - start


def high_water(pid: int) -> int:
    """The most memory that a process has held so far, in KiB; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def ours(isr: Path, folder: Path):
    run, log = folder / "run", folder / "isr.log"
    shutil.rmtree(run, ignore_errors=True)
    start, peak = time.perf_counter(), 0
    with log.open("w") as out:
        command = [isr, "run", folder / "bench.toml", "--out", run]
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        while child.poll() is None:
            peak = max(peak, high_water(child.pid))
            time.sleep(0.1)
    if child.returncode != 0:
        sys.exit(f"isr failed:\n{log.read_text()[-4000:]}")
    wall = time.perf_counter() - start
    seconds = {stage: 0.0 for stage in STAGES}
    for line in (run / "timings.jsonl").read_text().splitlines():
        timing = json.loads(line)
        if timing["stage"] in seconds:
            seconds[timing["stage"]] += timing["seconds"]
    summary = json.loads((run / "summary.json").read_text())
    return {"how": "ours", "seconds": seconds, "peak_mib": peak / 1024, "wall": wall, "iteration": summary["iterations"][-1]}


def peer(folder: Path, how: str):
    out, wall = measured([sys.executable, str(HERE / "iteration.py"), str(folder), "--how", how])
    return {**json.loads(out.strip().splitlines()[-1]), "wall": wall}


def product_rates(folder: Path) -> dict:
    """On the benchmark's device: bytes read a second, and operations a second of a large matrix product in its type, as
    torch.matmul takes it and as a convolution of a kernel of one pixel, which another library computes on a CPU."""
    _, settings = load(folder)
    program = (
        "import json, torch, time\n"
        f"a, b = (torch.randn(2048, 2048).to('{settings['device']}', torch.{settings['precision']}) for _ in 'ab')\n"
        "pixels, kernel = a.view(1, 2048, 1, 2048).permute(0, 3, 1, 2), b.view(2048, 2048, 1, 1)\n"
        "wait = torch.cuda.synchronize if a.is_cuda else (lambda: None)\n"
        "def rate(product):\n"
        "    product(); wait()\n"
        "    best = 9e9\n"
        "    for _ in range(8):\n"
        "        start = time.perf_counter(); product(); wait(); best = min(best, time.perf_counter() - start)\n"
        "    return 2 * 2048**3 / best\n"
        "convolution = lambda: torch.nn.functional.conv2d(pixels, kernel)\n"
        "large = torch.ones(1 << 28, device=a.device)\n"
        "reading = rate(lambda: large.sum()) / (2 * 2048**3) * 4 * large.numel()\n"
        "print(json.dumps({'matmul': rate(lambda: a @ b), 'convolution': rate(convolution), 'bytes': reading}))"
    )
    return json.loads(measured([sys.executable, "-c", program])[0])


def median(results, key):
    return statistics.median(key(result) for result in results)


def total(result):
    return sum(result["seconds"].values())


def per_second(results, size, settings, reading):
    """Tokens a second: of retrospection, which is decoding but for a few tokens a sample, and of training."""
    decoded = settings["samples"] * size.context
    for name, stage, tokens in [("decode tok/s", "retrospect", decoded), ("train tok/s", "train", train_tokens(size, settings))]:
        rates = [tokens / median(every, lambda result: result["seconds"][stage]) for every in results.values()]
        print(f"{name:<12}" + "".join(f"{rate:>12.0f}" for rate in rates))
    weights, sequence = decode_bytes(size, settings["frames"], 4 if settings["precision"] == "float32" else 2)
    rows = min(settings["batch"] or 8, settings["samples"])
    limit = rows * reading / (weights + rows * sequence)
    print(f"decoding {rows} at once, memory that is read at {reading / 1e9:.0f} GB/s allows {limit:.0f} tokens a second")


def table(results, arithmetic, rates, reading, size, settings):
    """Seconds; the arithmetic that each stage needs, and which share of either rate ours makes of it."""
    names = list(results)
    shares = "".join(f"{'of ' + name:>16}" for name in rates)
    print(f"\n{'stage':<12}" + "".join(f"{name:>12}" for name in names) + f"{'GFLOP':>10}{shares}")
    for stage in STAGES + ["total"]:
        pick = total if stage == "total" else (lambda result: result["seconds"].get(stage, 0.0))
        row = [median(results[name], pick) for name in names]
        work = sum(arithmetic.values()) if stage == "total" else arithmetic.get(stage, 0.0)
        shares = "".join(f"{work / rate / row[0]:>16.0%}" for rate in rates.values()) if row[0] > 0 and work else ""
        print(f"{stage:<12}" + "".join(f"{seconds:>12.2f}" for seconds in row) + f"{work / 1e9:>10.0f}{shares}")
    print(f"{'peak MiB':<12}" + "".join(f"{median(results[name], lambda r: r['peak_mib']):>12.0f}" for name in names))
    per_second(results, size, settings, reading)
    base = median(results["ours"], total)
    for name in names[1:]:
        ratios = [total(theirs) / total(mine) for theirs, mine in zip(results[name], results["ours"])]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"{name} takes {median(results[name], total) / base:.2f} times as long as ours (by round: {spread})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--isr", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="batched,expert", help="which, with commas; none: empty")
    args = parser.parse_args()
    size, settings = load(args.folder)
    peers = [name for name in args.peers.split(",") if name]
    results = {"ours": [], **{name: [] for name in peers}}
    rates = []
    for number in range(args.rounds):
        rates.append(product_rates(args.folder))
        for name in results:
            result = ours(args.isr, args.folder) if name == "ours" else peer(args.folder, name)
            results[name].append(result)
            print(f"round {number + 1}: {name} {total(result):.1f} s", flush=True)
    arithmetic = needed(size, settings)
    rate = {name: statistics.median(round[name] for round in rates) for name in rates[0]}
    reading = rate.pop("bytes")
    spoken = ", ".join(f"{flops / 1e9:.0f} GFLOP/s by {name}" for name, flops in rate.items())
    print(f"\n{settings['size']}, {settings['precision']}, {settings['device']}, {settings['samples']} samples, "
          f"{settings['frames']} frames; products at {spoken}")
    table(results, arithmetic, rate, reading, size, settings)
    record = {"settings": settings, "cores": os.cpu_count(), "product_flops": rates, "needed_flop": arithmetic,
              "results": results}
    (args.folder / "result.json").write_text(json.dumps(record, indent=1))
    print(f"\n{args.folder / 'result.json'}")


if __name__ == "__main__":
    main()
