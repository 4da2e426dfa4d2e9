"""`isr dpo` trains as TRL's DPOTrainer does: same tokens, log-probs, losses and rewards on the same pairs and model."""

import base64
import json
import subprocess

import pytest
import torch
from conftest import ROOT
from datasets import Dataset, Image, List
from transformers import AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration
from trl import DPOConfig, DPOTrainer

MODEL = ROOT / "tests" / "golden" / "tiny_llava"
STEPS, RATE, BETA = 3, 1e-3, 0.1
SYSTEM = {"role": "system", "content": "Answer in one sentence."}

# Of several lengths, so that padding and masks matter.
PAIRS = [
    ("What is shown?", "A red square above a blue one.", "A dog."),
    ("Which colour is on top?", "Red.", "It is green, I think, but I am not sure."),
    ("Describe the picture in detail.", "Two halves: the upper is red, the lower blue.", "Nothing can be seen here."),
    ("Is there a cat?", "No, there is none.", "Yes."),
]

CONFIG = """
name = "dpo"
[preferences]
type = "files"
path = "pairs.jsonl"
layout = "{layout}"
[video]
type = "ffmpeg"
[policy]
type = "torch"
model = "{model}"
threads = 1
[policy.training]
language_model = true
weight_decay = 0.0
[objective]
type = "dpo"
beta = {beta}
[train]
epochs = {steps}
batch_size = {batch}
learning_rate = {rate}
schedule = "constant"
warmup_ratio = 0.0
"""


def rows(layout, image):
    """The pairs in a layout; the text ones begin with a system prompt where the layout has one."""
    for question, chosen, rejected in PAIRS:
        media = {"images": [image]} if image else {}
        mark = "<image>\n" if image else ""
        user = {"role": "user", "content": mark * (layout != "trl") + question}
        answer = {"role": "assistant", "content": chosen}
        if layout == "trl":
            yield {"prompt": [SYSTEM, user], "chosen": [answer], "rejected": [{**answer, "content": rejected}], **media}
        if layout == "ms_swift":
            yield {"messages": [SYSTEM, user, answer], "rejected_response": rejected, **media}
        if layout == "llama_factory":
            turns = [{"from": "human", "value": user["content"]}]
            by = {"chosen": {"from": "gpt", "value": chosen}, "rejected": {"from": "gpt", "value": rejected}}
            yield {"system": SYSTEM["content"], "conversations": turns, **by, **media}


def of_isr(isr, folder, layout, image):
    """Scored pairs and steps of `isr dpo`."""
    text = "".join(json.dumps(row) + "\n" for row in rows(layout, image))
    (folder / "pairs.jsonl").write_text(text)
    batch = len(PAIRS)
    text = CONFIG.format(layout=layout, model=MODEL, beta=BETA, steps=STEPS, batch=batch, rate=RATE)
    (folder / "dpo.toml").write_text(text)
    subprocess.run([isr, "dpo", "dpo.toml", "-q", "--out", "out"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    read = lambda name: [json.loads(line) for line in (folder / "out" / "iteration-01" / name).open()]  # noqa: E731
    return read("preferences.jsonl"), read("metrics.jsonl")


def of_trl(folder, image):
    """Tokenised pairs, and a log entry of each step of TRL."""
    model = LlavaForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32)
    # What `language_model = true` trains.
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("language_model" in name or "lm_head" in name)
    data = Dataset.from_list(list(rows("trl", str(image) if image else None)))
    if image:
        data = data.cast_column("images", List(Image()))
    arguments = DPOConfig(
        output_dir=str(folder / "trl"),
        beta=BETA,
        per_device_train_batch_size=len(PAIRS),
        num_train_epochs=STEPS,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        weight_decay=0.0,
        max_length=None,
        logging_steps=1,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    processing = AutoProcessor.from_pretrained(MODEL) if image else AutoTokenizer.from_pretrained(MODEL)
    # TRL tokenises what the template writes without special tokens; this template leaves `<s>` to the tokenizer, which
    # writes a space behind it.
    processing.chat_template = "{{ bos_token }} " + processing.chat_template
    trainer = DPOTrainer(model=model, args=arguments, train_dataset=data, processing_class=processing)
    trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


@pytest.fixture(scope="module")
def steps_of_trl(tmp_path_factory, picture):
    """Steps of TRL, by whether the pairs have a picture."""
    folder = tmp_path_factory.mktemp("trl")
    image = folder / "picture.png"
    image.write_bytes(base64.b64decode(picture.split(",")[1]))
    return {False: of_trl(folder, None), True: of_trl(folder, image)}, image


@pytest.mark.parametrize("has_image", [False, True], ids=["text", "image"])
@pytest.mark.parametrize("layout", ["trl", "ms_swift", "llama_factory"])
def test_losses_and_rewards_are_those_of_trl(isr, steps_of_trl, tmp_path, layout, has_image):
    expected, image = steps_of_trl
    scored, steps = of_isr(isr, tmp_path, layout, str(image) if has_image else None)
    assert len(scored) == len(PAIRS) and len(steps) == STEPS
    first = expected[has_image][0]
    for index, name in enumerate(["chosen", "rejected"]):
        sums = [sum(pair["responses"][index]["logprobs"]) for pair in scored]
        assert sum(sums) / len(sums) == pytest.approx(first[f"logps/{name}"], abs=1e-3), name
    for step, (ours, theirs) in enumerate(zip(steps, expected[has_image])):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4), step
        assert ours["metrics"]["reward_margin"] == pytest.approx(theirs["rewards/margins"], abs=1e-3), step
    # The first loss is ln 2 whatever the pairs; the others tell whether the same was learned.
    assert abs(steps[1]["loss"] - steps[0]["loss"]) > 0.01
