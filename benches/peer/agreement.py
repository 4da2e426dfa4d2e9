"""Log-probs of sampled answers: as they were recorded, as `isr score` and as transformers compute them."""

import json
import statistics
import subprocess
from pathlib import Path

import torch
from PIL import Image
from transformers import CLIPImageProcessor, LlavaForConditionalGeneration

from shape import IMAGE, question, vocabulary

SAMPLES = 4


def agreement(args, folder: Path, size, run: Path) -> dict:
    """Mean and largest differences of a token's log-prob, by what is compared."""
    answers = recorded(run)
    rows = [{"id": str(index), "video": str(folder / f"video-{answer['sample']}"), "prompt": question(answer["sample"], size),
             "token_ids": answer["tokens"]} for index, answer in enumerate(answers)]
    (folder / "score.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    exact = theirs(args, folder, size, answers, torch.float32)
    found = {"ours in float32, transformers in float32": off(scored(args, folder, size, "float32"), exact)}
    if args.precision == "bfloat16":
        ours, other = scored(args, folder, size, "bfloat16"), theirs(args, folder, size, answers, torch.bfloat16)
        found["ours in bfloat16, transformers in float32"] = off(ours, exact)
        found["transformers in bfloat16, in float32"] = off(other, exact)
        found["recorded while sampling, `isr score`, both bfloat16"] = off([a["logprobs"] for a in answers], ours)
    return found


def recorded(run: Path) -> list:
    found = []
    for line in (run / "iteration-01/responses.jsonl").read_text().splitlines()[:SAMPLES]:
        item = json.loads(line)
        for response in item["responses"]:
            found.append({"sample": int(item["sample"][1:]), "tokens": response["token_ids"], "logprobs": response["logprobs"]})
    return found


def scored(args, folder: Path, size, precision: str) -> list:
    command = [args.isr, "score", "--model", folder / "model", "--data", folder / "score.jsonl", "--frames", size.frames,
               "--device", args.device, "--precision", precision, "--json"]
    said = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [row["logprobs"] for row in sorted(rows, key=lambda row: int(row["id"]))]


@torch.no_grad()
def theirs(args, folder: Path, size, answers: list, dtype) -> list:
    model = LlavaForConditionalGeneration.from_pretrained(folder / "model", dtype=dtype).to(args.device)
    processor, words, found = CLIPImageProcessor.from_pretrained(folder / "model"), vocabulary(size), []
    for answer in answers:
        paths = sorted((folder / f"video-{answer['sample']}").glob("*.png"))
        pixels = processor([Image.open(path) for path in paths], return_tensors="pt")["pixel_values"].to(args.device, dtype)
        prompt = [words["USER:"], *[IMAGE] * (len(paths) * 256)]
        prompt += [words[word] for word in question(answer["sample"], size).split()] + [words["ASSISTANT:"]]
        row = torch.tensor([prompt + answer["tokens"]], device=args.device)
        keep = len(answer["tokens"]) + 1
        logits = model(input_ids=row, pixel_values=pixels, use_cache=False, logits_to_keep=keep).logits[0, :-1].float()
        at = torch.tensor(answer["tokens"], device=args.device)[:, None]
        found.append(logits.log_softmax(-1).gather(1, at)[:, 0].tolist())
    del model
    if args.device != "cpu":
        torch.cuda.empty_cache()  # for the processes that follow
    return found


def off(ones: list, others: list) -> dict:
    both = [abs(a - b) for one, other in zip(ones, others, strict=True) for a, b in zip(one, other, strict=True)]
    return {"tokens": len(both), "mean": statistics.mean(both), "largest": max(both)}
