"""How far the log-probs of sampled answers are from those that training computes, with recorded and with recomputed
reference; prints a table.

    python benches/peer/make.py FOLDER --size 1b --precision bfloat16 --device cuda --samples 32
    python benches/peer/drift.py FOLDER --isr target/release/isr

`recorded` is sampling against training's forward pass on the first batch, which holds all pairs; `recompute` is
sampling against scoring, of all pairs, and beside it scoring against training, of the first batch.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = {
    "sampling_score_drift": "mean of a token",
    "sampling_score_drift_max": "largest of a token",
    "sampling_score_drift_sum": "mean of an answer",
}


def run(isr: Path, folder: Path, reference: str):
    """Metrics of the summary and of the first training step."""
    out = folder / f"drift-{reference}"
    shutil.rmtree(out, ignore_errors=True)
    command = [isr, "run", folder / "bench.toml", "--out", out, "-s", f'train.reference="{reference}"']
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"isr failed:\n{done.stdout[-4000:]}")
    summary = json.loads((out / "summary.json").read_text())["iterations"][0]["training"]["metrics"]
    first = (out / "iteration-01/metrics.jsonl").read_text().splitlines()[0]
    return summary, json.loads(first)["metrics"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="as make.py wrote it")
    parser.add_argument("--isr", type=Path, required=True)
    args = parser.parse_args()
    settings = json.loads((args.folder / "bench.json").read_text())
    print("{size}, {precision}, {device}, {samples} samples of two answers".format(**settings))
    recorded, _ = run(args.isr, args.folder, "recorded")
    sampled, scored = run(args.isr, args.folder, "recompute")
    print(f"| nats | recorded: sampling - training | recompute: sampling - scoring | scoring - training |\n|{'---|' * 4}")
    for key, name in NAMES.items():
        print(f"| {name} | {recorded[key]:.3g} | {sampled[key]:.3g} | {scored[key]:.3g} |")


if __name__ == "__main__":
    main()
