"""peft loads the adapters that isr-torch saves, and computes the same with them."""

import json

import torch
from peft import PeftModel
from safetensors.torch import load_file
from test_checkpoint import dump, pixels, sequence_logits  # noqa: F401  (dump is a fixture)


def adapted(checkpoint, model):
    return PeftModel.from_pretrained(model, checkpoint.parent / "adapter").eval()


def test_every_matrix_is_taken_and_nothing_else_is_adapted(dump):  # noqa: F811
    checkpoint, *_, model, _ = dump
    stored = load_file(checkpoint.parent / "adapter" / "adapter_model.safetensors")
    model = adapted(checkpoint, model)
    try:
        loaded = {
            name.replace(".default", ""): value for name, value in model.state_dict().items() if ".lora_" in name
        }
        assert loaded.keys() == stored.keys()
        assert all(torch.equal(loaded[name], value) for name, value in stored.items())
    finally:
        model.unload()


def test_logits_with_the_adapter_are_equal(dump):  # noqa: F811
    checkpoint, _, tensors, model, _ = dump
    expected = load_file(checkpoint.parent / "adapter.safetensors")["logits"]
    ids = tensors["input_ids"].tolist()
    with torch.no_grad():
        before = sequence_logits(model, pixels(checkpoint, tensors), ids)
        model = adapted(checkpoint, model)
        try:
            logits = sequence_logits(model, pixels(checkpoint, tensors), ids)
        finally:
            model.unload()
    assert (logits - expected).abs().max() < 1e-4
    assert (logits - before).abs().max() > 1e-2, "the adapter does something"


def test_the_adapter_names_its_base(dump):  # noqa: F811
    checkpoint, *_ = dump
    config = json.loads((checkpoint.parent / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(checkpoint)
