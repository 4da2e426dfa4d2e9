"""transformers loads the checkpoints that isr-torch saves, and computes the same with them."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlavaForConditionalGeneration

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=[1, 2])
def dump(request, dump_checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp(f"dump-{request.param}")
    subprocess.run([dump_checkpoint, str(out), str(request.param)], cwd=ROOT, check=True)
    numbers = json.loads((out / "dump.json").read_text())
    tensors = load_file(out / "dump.safetensors")
    model, report = LlavaForConditionalGeneration.from_pretrained(
        out / "checkpoint", dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    return out / "checkpoint", numbers, tensors, model, report


def pixels(checkpoint, tensors):
    """CLIPImageProcessor's recipe on tensors (transformers' own needs torchvision, and with it CUDA)."""
    config = json.loads((checkpoint / "preprocessor_config.json").read_text())
    side, crop = config["size"]["shortest_edge"], config["crop_size"]
    frames = tensors["frames"].permute(0, 3, 1, 2)
    height, width = frames.shape[2:]
    short = min(height, width)
    size = (side * height // short, side * width // short)
    frames = torch.nn.functional.interpolate(frames, size=size, mode="bicubic", antialias=True)
    top, left = (size[0] - crop["height"]) // 2, (size[1] - crop["width"]) // 2
    frames = frames[:, :, top : top + crop["height"], left : left + crop["width"]].float()
    mean = 255 * torch.tensor(config["image_mean"])[:, None, None]
    std = 255 * torch.tensor(config["image_std"])[:, None, None]
    return (frames - mean) / std


def sequence_logits(model, pixel_values, ids):
    return model(input_ids=torch.tensor([ids]), pixel_values=pixel_values).logits[0]


def test_every_tensor_is_taken(dump):
    *_, report = dump
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"]


def test_logits_are_equal(dump):
    checkpoint, _, tensors, model, _ = dump
    with torch.no_grad():
        logits = sequence_logits(model, pixels(checkpoint, tensors), tensors["input_ids"].tolist())
    assert (logits - tensors["logits"]).abs().max() < 1e-4


def test_24_greedy_tokens_are_equal(dump):
    checkpoint, numbers, tensors, model, _ = dump
    generated = model.generate(
        input_ids=tensors["input_ids"][None],
        attention_mask=torch.ones_like(tensors["input_ids"])[None],
        pixel_values=pixels(checkpoint, tensors),
        do_sample=False,
        max_new_tokens=24,
    )
    assert generated[0, len(tensors["input_ids"]) :].tolist() == numbers["greedy"]
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    assert tokenizer.decode(numbers["greedy"], skip_special_tokens=True).strip() == numbers["text"]


def test_dpo_loss_and_gradient_match_autograd(dump):
    checkpoint, numbers, tensors, model, _ = dump
    prompt = tensors["input_ids"].tolist()
    pixel_values = pixels(checkpoint, tensors)
    ratios = []
    for answer, reference in zip([numbers["chosen"], numbers["rejected"]], numbers["references"]):
        logits = sequence_logits(model, pixel_values, prompt + answer)[len(prompt) - 1 : -1]
        logprobs = torch.log_softmax(logits, -1).gather(1, torch.tensor(answer)[:, None])
        ratios.append(logprobs.sum() - torch.tensor(reference).sum())
    loss = -torch.nn.functional.logsigmoid(0.1 * (ratios[0] - ratios[1]))
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert loss.item() == pytest.approx(numbers["loss"], abs=1e-5)
    assert norm.item() == pytest.approx(numbers["grad_norm"], rel=1e-4)
