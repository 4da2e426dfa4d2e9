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


def rows(layout, image, system):
    """The pairs in a layout, about a picture or about nothing, behind a system prompt or without."""
    before = [SYSTEM] * system
    for question, chosen, rejected in PAIRS:
        marked = ("<image>\n" if image else "") + question
        user = {"role": "user", "content": question if layout == "trl" else marked}
        answer, other = {"role": "assistant", "content": chosen}, {"role": "assistant", "content": rejected}
        gpt, bad = {"from": "gpt", "value": chosen}, {"from": "gpt", "value": rejected}
        human = {"system": SYSTEM["content"] if system else "", "conversations": [{"from": "human", "value": marked}]}
        images, texts = {"images": [image]} if image else {}, {"chosen": chosen, "rejected": rejected}
        yield {
            "trl": {"prompt": [*before, user], "chosen": [answer], "rejected": [other], **images},
            "ms_swift": {"messages": [*before, user, answer], "rejected_response": rejected, **images},
            "llama_factory": {**human, "chosen": gpt, "rejected": bad, **images},
            "llava_hound": {"id": question, "video": image, "prompt": marked, **texts},
            "vistadpo": {"id": question, "video": image, "prompt": question, **texts, "rejected_2": "", "bbox": ""},
            "rrpo": {"question": marked, "answer": chosen, "pred": rejected, "answer_masked": "<MASK>", "video": image},
            "rlaif_v": {"question": question, **texts, "image": {"path": image, "bytes": None}, "idx": question},
        }[layout]


def of_isr(isr, folder, layout, image, system):
    """Scored pairs and steps of `isr dpo`."""
    text = "".join(json.dumps(row) + "\n" for row in rows(layout, image, system))
    (folder / "pairs.jsonl").write_text(text)
    batch = len(PAIRS)
    text = CONFIG.format(layout=layout, model=MODEL, beta=BETA, steps=STEPS, batch=batch, rate=RATE)
    (folder / "dpo.toml").write_text(text)
    subprocess.run([isr, "dpo", "dpo.toml", "-q", "--out", "out"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    read = lambda name: [json.loads(line) for line in (folder / "out" / "iteration-01" / name).open()]  # noqa: E731
    return read("preferences.jsonl"), read("metrics.jsonl")


def of_trl(folder, image, system):
    """A log entry of each step of TRL."""
    model = LlavaForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32)
    # What `language_model = true` trains.
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("language_model" in name or "lm_head" in name)
    data = Dataset.from_list(list(rows("trl", image, system)))
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
    """A picture, and the steps of TRL on pairs about it, and on pairs of text behind a system prompt."""
    folder = tmp_path_factory.mktemp("trl")
    image = folder / "picture.png"
    image.write_bytes(base64.b64decode(picture.split(",")[1]))
    return str(image), {"image": of_trl(folder, str(image), False), "text": of_trl(folder, None, True)}


LAYOUTS = ["trl", "ms_swift", "llama_factory", "llava_hound", "vistadpo", "rrpo", "rlaif_v"]


@pytest.mark.parametrize(
    ("about", "layout"), [("text", layout) for layout in LAYOUTS[:3]] + [("image", layout) for layout in LAYOUTS]
)
def test_losses_and_rewards_are_those_of_trl(isr, steps_of_trl, tmp_path, about, layout):
    image, expected = steps_of_trl
    scored, steps = of_isr(isr, tmp_path, layout, image if about == "image" else None, about == "text")
    assert len(scored) == len(PAIRS) and len(steps) == STEPS
    first = expected[about][0]
    for index, name in enumerate(["chosen", "rejected"]):
        sums = [sum(pair["responses"][index]["logprobs"]) for pair in scored]
        assert sum(sums) / len(sums) == pytest.approx(first[f"logps/{name}"], abs=1e-3), name
    for step, (ours, theirs) in enumerate(zip(steps, expected[about])):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4), step
        assert ours["metrics"]["reward_margin"] == pytest.approx(theirs["rewards/margins"], abs=1e-3), step
    # The first loss is ln 2 whatever the pairs; the others tell whether the same was learned.
    assert abs(steps[1]["loss"] - steps[0]["loss"]) > 0.01
