"""Measures decoding on a GPU: the reproducible step beside the fused one, as a share of the limit by memory bandwidth.

    python benches/peer/gpu.py --isr PATH --out FOLDER [--size 7b] [--rows 8 64] [--device cuda] [--json]

Runs on a machine that has Python, torch and transformers; videos are folders of PNG files. On a CPU take `--size tiny
--rows 8 --device cpu`, which shows that it runs.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import make
from shape import SIZES, question


def pictures(folder: Path, size, samples: int) -> None:
    """Samples whose videos are folders of PNG files."""
    lines = []
    for sample in range(samples):
        video = folder / f"video-{sample}"
        video.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(sample)
        for frame in range(size.frames):
            Image.fromarray(noise.integers(0, 256, (224, 224, 3), dtype=np.uint8)).save(video / f"{frame:03}.png")
        turns = [{"from": "human", "value": question(sample, size)}, {"from": "gpt", "value": "w1"}]
        lines.append(json.dumps({"id": f"s{sample}", "video": video.name, "conversations": turns}))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")


def bandwidth(device: str) -> float:
    """Bytes a second that a copy reads and writes."""
    if device == "cpu":
        return float("nan")
    x = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    y = torch.empty_like(x)
    y.copy_(x)
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(20):
        y.copy_(x)
    torch.cuda.synchronize()
    return 2 * 20 * x.numel() / (time.perf_counter() - start)


def bytes_a_step(size, rows: int) -> int:
    """Bytes that a step must read: weights of decoder and head, keys and values of prefixes and half of the answers."""
    width = size.hidden // size.heads
    qkv = size.hidden * (size.heads + 2 * size.kv_heads) * width
    layer = qkv + size.hidden * size.hidden + 3 * size.hidden * size.intermediate
    weights = size.layers * layer + make.WORDS * size.hidden
    tokens = rows // 2 * 256 * size.frames + rows * (size.question + size.answer // 2)
    return 2 * (weights + tokens * size.layers * size.kv_heads * width * 2)


def drift(args, folder: Path, run: Path, samples: int) -> dict:
    """Recorded log-probs of sampled answers against those of `isr score`."""
    rows, recorded = [], []
    for line in (run / "iteration-01/responses.jsonl").read_text().splitlines()[: min(samples, 8)]:
        item = json.loads(line)
        for response in item["responses"]:
            sample = int(item["sample"][1:])
            rows.append({"id": item["sample"], "video": str(folder / f"video-{sample}"), "token_ids": response["token_ids"],
                         "prompt": question(sample, SIZES[args.size])})
            recorded.append(response["logprobs"])
    (folder / "score.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [args.isr, "score", "--model", folder / "model", "--data", folder / "score.jsonl", "--frames",
               SIZES[args.size].frames, "--device", args.device, "--precision", args.precision, "--json"]
    said = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout
    scored = [json.loads(line)["logprobs"] for line in said.splitlines() if line.startswith("{")]
    off = [abs(a - b) for one, other in zip(recorded, scored, strict=True) for a, b in zip(one, other, strict=True)]
    return {"tokens": len(off), "mean": statistics.mean(off), "largest": max(off)}


def measure(args, folder: Path, rows: int, decoding: str) -> dict:
    run = folder / f"run-{decoding}-{rows}"
    lora = ["-s", "policy.training.lora.rank=16", "-s", 'policy.training.lora.targets=["q_proj","v_proj"]']
    settings = [f"policy.decoding={decoding}", f"policy.batch={rows}", "policy.prefix_cache_mb=60000",
                f"loop.concurrency={max(rows, 8)}"]
    command = [args.isr, "run", str(folder / "bench.toml"), *lora, "-o", str(run)]
    for setting in settings:
        command += ["-s", setting]
    environment = dict(os.environ, RUST_LOG="info,isr_torch=debug")
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    if said.returncode:
        raise SystemExit(f"{' '.join(command)}\n{said.stdout[-4000:]}")
    steps = [(int(found[1]), float(found[2])) for found in
             re.finditer(r"decoded.*?rows=(\d+).*?milliseconds_a_step=([\d.]+)", re.sub(r"\x1b\[[\d;]*m", "", said.stdout))]
    full = [milliseconds for count, milliseconds in steps if count == rows]
    stages = {}
    for line in (run / "timings.jsonl").read_text().splitlines():
        timing = json.loads(line)
        if timing["iteration"] == 1:
            stages[timing["stage"]] = timing["seconds"]
    return {"rows": rows, "decoding": decoding, "stages": stages, "step_ms": statistics.median(full) if full else None,
            "drift": drift(args, folder, run, rows // 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--isr", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--decoding", nargs="+", default=["reproducible", "fused"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    size, folder = SIZES[args.size], args.out.resolve()
    (folder / "model").mkdir(parents=True, exist_ok=True)
    if not (folder / "model/config.json").exists():
        with torch.device(args.device):
            make.checkpoint(folder / "model", size, size.frames, getattr(torch, args.precision), False)
        make.tokenizer(folder / "model")
    if args.device != "cpu":
        torch.cuda.empty_cache()
    samples = max(args.rows) // 2
    pictures(folder, size, samples)
    speed = bandwidth(args.device)
    found = []
    for rows in args.rows:
        values = {"frames": size.frames, "context": size.context, "answer": size.answer, "samples": rows // 2}
        lines = (folder / "train.jsonl").read_text().splitlines()[: rows // 2]
        (folder / "some.jsonl").write_text("\n".join(lines) + "\n")
        config = make.CONFIG.format(folder=folder, precision=args.precision, device=args.device, checkpointing="true",
                                    batch=rows, micro_batch=1, **values)
        (folder / "bench.toml").write_text(config.replace("train.jsonl", "some.jsonl"))
        for decoding in args.decoding:
            row = measure(args, folder, rows, decoding)
            row["limit_ms"] = bytes_a_step(size, rows) / speed * 1e3
            found.append(row)
            if not args.json:
                step = f"{row['step_ms']:.1f} ms a step, limit {row['limit_ms']:.1f}" if row["step_ms"] else ""
                stages = ", ".join(f"{stage} {seconds:.2f}" for stage, seconds in row["stages"].items())
                print(f"{decoding} {rows} rows: {step}; {stages}; drift {row['drift']}", flush=True)
    if args.json:
        print(json.dumps({"size": args.size, "bytes_a_second": speed, "runs": found}))


if __name__ == "__main__":
    main()
