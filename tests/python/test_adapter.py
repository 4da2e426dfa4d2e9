"""peft loads the adapters that isr-torch saves, and computes the same with them."""

import json

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import load_file
from test_checkpoint import dump, pixels, sequence_logits  # noqa: F401  (dump is a fixture)


# `adapter_all` has magnitudes (DoRA), patterns of ranks and alphas, and saved modules.
KINDS = pytest.mark.parametrize("name", ["adapter", "adapter_all"])


def adapted(checkpoint, model, name):
    return PeftModel.from_pretrained(model, checkpoint.parent / name).eval()


def removed(model):
    """Takes the adapter off the model, which other tests share. PEFT's `unload` leaves saved modules in their places."""
    wrapped = [(name, it) for name, it in model.get_base_model().named_modules() if isinstance(it, ModulesToSaveWrapper)]
    base = model.unload()
    for name, module in wrapped:
        parent, _, last = name.rpartition(".")
        setattr(base.get_submodule(parent), last, module.original_module)


@KINDS
def test_every_tensor_is_taken_and_nothing_else_is_adapted(dump, name):  # noqa: F811
    checkpoint, *_, model, _ = dump
    stored = load_file(checkpoint.parent / name / "adapter_model.safetensors")
    model = adapted(checkpoint, model, name)
    try:
        loaded = get_peft_model_state_dict(model)
        assert loaded.keys() == stored.keys()
        assert all(torch.equal(loaded[name], value) for name, value in stored.items())
    finally:
        removed(model)


@KINDS
def test_logits_with_the_adapter_are_equal(dump, name):  # noqa: F811
    checkpoint, _, tensors, model, _ = dump
    expected = load_file(checkpoint.parent / f"{name}.safetensors")["logits"]
    ids = tensors["input_ids"].tolist()
    with torch.no_grad():
        before = sequence_logits(model, pixels(checkpoint, tensors), ids)
        model = adapted(checkpoint, model, name)
        try:
            logits = sequence_logits(model, pixels(checkpoint, tensors), ids)
        finally:
            removed(model)
    assert (logits - expected).abs().max() < 1e-4
    assert (logits - before).abs().max() > 1e-2, "the adapter does something"


@KINDS
def test_the_adapter_names_its_base(dump, name):  # noqa: F811
    checkpoint, *_ = dump
    config = json.loads((checkpoint.parent / name / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(checkpoint)
