"""The numbers of tests/golden, which the policy `torch` meets too: prompts, log-probs, greedy tokens, losses and norms of
five AdamW steps. Qwen2.5-VL's are those of the positions that its weights were trained with (docs/families.md)."""

import json

import numpy
import pytest
from isr_plugin import Message
from safetensors.numpy import load_file

import clips
import dpo
from conftest import ROOT

SYSTEM = ("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
          "detailed, and polite answers to the user's questions.")
ENDS = ("<|im_end|>", "</s>")


@pytest.fixture(params=["qwen2_5_vl", "qwen2_5_vl_time", "qwen3_vl", "video_llava", "llava_next_video"])
def golden(request, policy, video):
    folder = ROOT / "tests" / "golden"
    numbers = json.loads((folder / f"{request.param}.json").read_text())
    tensors = load_file(folder / f"{request.param}.safetensors")
    (height, width), frames = numbers["source_hw"], numbers["frames"]
    clip = video(0, frames, height, width)
    total, fps = numbers.get("clip_frames", frames), numbers["fps"] or 1.0
    clip.timestamps = [int(index) / fps for index in numpy.linspace(0, total - 1, frames)]
    clip.duration = total / fps
    prompt = clips.asked(clip, numbers["question"])
    if not request.param.startswith("qwen"):
        prompt.insert(0, Message("system", [SYSTEM]))
    training = {"weight_decay": numbers["adamw_5_steps"]["weight_decay"]}
    return policy(numbers.get("model", request.param).removeprefix("tiny_"), training=training), prompt, numbers, tensors


def answers(numbers):
    texts = [numbers["responses"][f"{name}_text"] for name in ("chosen", "rejected")]
    for end in ENDS:
        texts = [text.removesuffix(end) for text in texts]
    return texts


def test_prompts_scores_and_greedy_tokens(golden):
    policy, prompt, numbers, tensors = golden
    assert policy.prompts.render(prompt).inputs["input_ids"][0].tolist() == numbers["input_ids"]
    scores = policy.score(clips.score(prompt, *answers(numbers)))
    for name, score in zip(("chosen", "rejected"), scores):
        assert score.token_ids == numbers["responses"][f"{name}_ids"]
        numpy.testing.assert_allclose(score.logprobs, tensors[f"{name}_logps"], atol=1e-4)
    greedy = policy.generate(clips.generate(prompt, n=1, temperature=0.0, max_new_tokens=24))[0]
    assert greedy.token_ids == numbers["greedy_ids"]


def test_five_steps_of_dpo(golden):
    policy, prompt, numbers, tensors = golden
    sequences = [clips.sequence(prompt, text) for text in answers(numbers)]
    references = [float(tensors[f"{name}_ref_logps"].sum()) for name in ("chosen", "rejected")]
    wanted = numbers["adamw_5_steps"]
    steps = [dpo.train(policy, sequences, references, step, wanted["lr"]) for step in range(5)]
    numpy.testing.assert_allclose([loss for loss, _ in steps], wanted["losses_before_step"], atol=1e-4)
    numpy.testing.assert_allclose([norm for _, norm in steps], wanted["grad_norms_before_clip"], rtol=1e-4)
