"""examples/convert_checkpoint.py turns pickled weights into safetensors that transformers takes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "tiny_llava"


def convert(folder):
    script = ROOT / "examples" / "convert_checkpoint.py"
    return subprocess.run([sys.executable, script, folder], capture_output=True, text=True)


@pytest.mark.parametrize("shards", [1, 3])
def test_weights_are_the_same_in_one_file_or_many(tmp_path, shards):
    for path in GOLDEN.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, tmp_path)
    tensors = load_file(GOLDEN / "model.safetensors")
    # Weights that share memory are written, not refused.
    tensors["language_model.tied.weight"] = tensors["language_model.lm_head.weight"]
    names = list(tensors)
    for shard in range(shards):
        part = {name: tensors[name] for name in names[shard::shards]}
        name = "pytorch_model.bin" if shards == 1 else f"pytorch_model-{shard + 1:05}-of-{shards:05}.bin"
        torch.save(part, tmp_path / name)
    result = convert(tmp_path)
    assert result.returncode == 0, result.stderr
    written = {}
    for path in tmp_path.glob("model*.safetensors"):
        written |= load_file(path)
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in tensors.items())
    if shards > 1:
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert index["weight_map"].keys() == tensors.keys()
    _, report = LlavaForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]


def test_code_in_a_pickle_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"a": Payload()}, tmp_path / "pytorch_model.bin")
    assert convert(tmp_path).returncode != 0
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_pickles_is_named(tmp_path):
    result = convert(tmp_path)
    assert result.returncode != 0 and str(tmp_path) in result.stderr
