"""An iteration on a GPU, ours and that of plain transformers, with each decoding step beside the limit by memory bandwidth.

    python benches/peer/gpu.py --isr BIN --out DIR [--size tiny|1b|7b|qwen3_8b] [--rows 8 64] [--device cuda] [--json]

One folder to carry: it needs Python, torch, transformers and the binary; the model is made on the device, videos are folders
of PNG files. Keep DIR in memory (/dev/shm). Both sides train the same low-rank adapters with gradient checkpointing, answer
the same prompts at the same lengths, and take `rows` answers at a time. `--size tiny --device cpu` shows that it runs.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import make
from agreement import agreement
from shape import SIZES, question

HERE = Path(__file__).parent
STAGES = ["respond", "retrospect", "judge", "reference", "train"]
RANK = 16


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
    (folder / "all.jsonl").write_text("\n".join(lines) + "\n")


def bandwidth(device: str) -> float:
    """Bytes a second that a copy reads and writes."""
    large = torch.empty(1 << (30 if device != "cpu" else 26), dtype=torch.uint8, device=device)
    copy, best = torch.empty_like(large), float("inf")
    for _ in range(20):
        start = time.perf_counter()
        copy.copy_(large)
        if device != "cpu":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * large.numel() / best


def bytes_a_step(size, rows: int, width: int) -> int:
    """Bytes that a step must read: weights of decoder and head, keys and values of prefixes and half of the answers. Two
    answers share a prefix."""
    head = size.hidden // size.heads
    qkv = size.hidden * (size.heads + 2 * size.kv_heads) * head
    layer = qkv + size.hidden * size.hidden + 3 * size.hidden * size.intermediate
    weights = size.layers * layer + size.words * size.hidden
    tokens = (rows + 1) // 2 * 256 * size.frames + rows * (size.question + size.answer // 2)
    return width * (weights + tokens * size.layers * size.kv_heads * head * 2)


class Watch:
    """Busy share and memory of a GPU, ten times a second, by nvidia-smi."""

    def __init__(self, device: str):
        self.rows, self.process = [], None
        if device == "cpu" or not shutil.which("nvidia-smi"):
            return
        command = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-lms", "100"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        for line in self.process.stdout:
            busy, memory = (int(part) for part in line.split(","))
            self.rows.append((time.perf_counter(), busy, memory))

    def end(self) -> None:
        if self.process:
            self.process.terminate()

    def between(self, start: float, end: float):
        """Seconds that the device idled, and its peak memory in MiB; None where nothing watches."""
        rows = [(busy, memory) for at, busy, memory in self.rows if start <= at <= end]
        if not rows:
            return None, None
        idle = 1 - statistics.mean(busy for busy, _ in rows) / 100
        return idle * (end - start), max(memory for _, memory in rows)


def ours(args, folder: Path, rows: int, watch: Watch) -> dict:
    run = folder / f"run-{rows}"
    shutil.rmtree(run, ignore_errors=True)
    settings = [f"policy.batch={rows}", f"loop.concurrency={max(rows, 8)}", f"policy.training.lora.rank={RANK}",
                'policy.training.lora.targets=["q_proj","v_proj"]']
    if args.decoding:
        settings.append(f"policy.decoding={args.decoding}")
    command = [str(args.isr), "run", str(folder / "bench.toml"), "-o", str(run)]
    for setting in settings:
        command += ["-s", setting]
    environment = dict(os.environ, RUST_LOG="info,isr_torch=debug")
    start = time.perf_counter()
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    end = time.perf_counter()
    if said.returncode:
        raise SystemExit(f"{' '.join(command)}\n{said.stdout[-4000:]}")
    log = re.sub(r"\x1b\[[\d;]*m", "", said.stdout)
    (folder / f"isr-{rows}.log").write_text(log)
    found = re.finditer(r"decoded.*?rows=(\d+).*?milliseconds_a_step=([\d.]+)", log)
    steps = [(int(match[1]), float(match[2])) for match in found]
    most = max((count for count, _ in steps), default=0)
    full = [milliseconds for count, milliseconds in steps if count == most]
    stages = dict.fromkeys(STAGES, 0.0)
    for line in (run / "timings.jsonl").read_text().splitlines():
        timing = json.loads(line)
        if timing["iteration"] == 1 and timing["stage"] in stages:
            stages[timing["stage"]] += timing["seconds"]
    whole = sum(stages.values())
    idle, peak = watch.between(end - whole, end)
    chosen = re.findall(r"policy loaded.*|attention of decoding steps.*|decoding steps do without.*", log)
    return {"how": "ours", "rows": rows, "stages": stages, "whole": whole, "wall": end - start, "idle": idle,
            "peak_mib": peak, "step_rows": most, "step_ms": statistics.median(full) if full else None, "chosen": chosen}


def batched(folder: Path, rows: int, watch: Watch) -> dict:
    command = [sys.executable, str(HERE / "iteration.py"), str(folder), "--how", "batched"]
    start = time.perf_counter()
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.perf_counter()
    if said.returncode:
        return {"how": "batched", "rows": rows, "failed": said.stderr.strip().splitlines()[-1][:300]}
    stages = {stage: json.loads(said.stdout.splitlines()[-1])["seconds"].get(stage, 0.0) for stage in STAGES}
    whole = sum(stages.values())
    idle, peak = watch.between(end - whole, end)
    return {"how": "batched", "rows": rows, "stages": stages, "whole": whole, "wall": end - start, "idle": idle,
            "peak_mib": peak}


def configure(args, folder: Path, size, rows: int) -> None:
    """Configs of both sides for `rows` answers, two a sample."""
    samples = max(rows // 2, 1)
    lines = (folder / "all.jsonl").read_text().splitlines()[:samples]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    values = {"frames": size.frames, "context": size.context, "answer": size.answer, "samples": samples}
    config = make.CONFIG.format(folder=folder, precision=args.precision, device=args.device, checkpointing="true",
                                batch=rows, micro_batch=1, **values)
    (folder / "bench.toml").write_text(config)
    settings = {"batch": rows, "size": args.size, "precision": args.precision, "device": args.device, "lora": RANK,
                "checkpointing": True, **values}
    (folder / "bench.json").write_text(json.dumps(settings))


def show(found: dict) -> None:
    def seconds(value):
        return "" if value is None else f"{value:.2f}"

    print(f"\n{found['size']}, {found['precision']}, {found['device']}; a copy runs at {found['bytes_a_second'] / 1e12:.2f} TB/s\n")
    print("| rows | | " + " | ".join(STAGES) + " | iteration | idle | peak MiB | a step of n rows, ms | limit, ms | share |")
    print("|---" * (len(STAGES) + 8) + "|")
    for run in found["runs"]:
        if "failed" in run:
            print(f"| {run['rows']} | {run['how']} | {run['failed']} |")
            continue
        cells = [run["rows"], run["how"], *(seconds(run["stages"][stage]) for stage in STAGES), seconds(run["whole"]),
                 seconds(run["idle"]), run["peak_mib"] or ""]
        if run.get("step_ms"):
            cells += [f"{run['step_rows']}: {run['step_ms']:.1f}", f"{run['limit_ms']:.1f}", f"{run['share']:.0%}"]
        else:
            cells += ["", "", ""]
        print("| " + " | ".join(str(cell) for cell in cells) + " |")
    for rows, ratio in found["ratios"].items():
        print(f"batched takes {ratio:.2f} times as long as ours at {rows} rows")
    for run in found["runs"]:
        for line in run.get("chosen", []):
            print(f"{run['rows']} rows: {line}")
    for what, off in found["agreement"].items():
        print(f"{what}: {off['mean']:.2g} mean, {off['largest']:.2g} largest, of {off['tokens']} tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isr", type=Path, required=True, help="the binary")
    parser.add_argument("--out", type=Path, required=True, help="folder for model, videos and runs; 30 GB at 7b")
    parser.add_argument("--size", choices=SIZES, default="7b")
    parser.add_argument("--rows", type=int, nargs="+", default=[8, 64], help="answers that are decoded at once")
    parser.add_argument("--decoding", choices=["fused", "reproducible"], help="other than what the device gives")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--peers", default="batched", help="none: empty")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    size, folder = SIZES[args.size], args.out.resolve()
    args.isr = args.isr.resolve()
    (folder / "model").mkdir(parents=True, exist_ok=True)
    if not (folder / "model/chat_template.jinja").exists():
        with torch.device(args.device):
            make.checkpoint(folder / "model", size, size.frames, getattr(torch, args.precision), False)
        torch.set_default_dtype(torch.float32)
        make.tokenizer(folder / "model", size)
    pictures(folder, size, max(max(args.rows) // 2, 1))
    speed = bandwidth(args.device)
    if args.device != "cpu":
        torch.cuda.empty_cache()
    watch, runs, ratios = Watch(args.device), [], {}
    width = 2 if args.precision == "bfloat16" else 4
    for rows in args.rows:
        configure(args, folder, size, rows)
        mine = ours(args, folder, rows, watch)
        if mine["step_ms"]:
            mine["limit_ms"] = bytes_a_step(size, mine["step_rows"], width) / speed * 1e3
            mine["share"] = mine["limit_ms"] / mine["step_ms"]
        runs.append(mine)
        if args.peers:
            theirs = batched(folder, rows, watch)
            runs.append(theirs)
            if "whole" in theirs:
                ratios[rows] = theirs["whole"] / mine["whole"]
    watch.end()
    name = torch.cuda.get_device_name() if args.device != "cpu" else "cpu"
    found = {"size": args.size, "precision": args.precision, "device": name, "bytes_a_second": speed, "runs": runs,
             "ratios": ratios, "agreement": agreement(args, folder, size, folder / f"run-{args.rows[0]}")}
    if args.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
