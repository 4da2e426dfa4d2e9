"""Weights in 4 bits as bitsandbytes stores them, and what it and a reference in numpy decode them to.

    python tests/golden/nf4.py                 # writes nf4.safetensors beside this file; needs torch and bitsandbytes

`weight` is a random matrix with a block of zeros; `plain.*` and `nested.*` are its codes and state (blocks of 64; magnitudes
in float32, or in 8 bits), `plain.decoded` and `nested.decoded` what `functional.dequantize_4bit` returns. `checkpoint.*` are the
linear layers of `tiny_llava` but its output layer, as transformers saves a model loaded with
`BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)`.
"""

import json
from pathlib import Path

import bitsandbytes
import numpy
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent


def quantised(weight, nested):
    codes, state = quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=nested)
    stored = {"weight": codes, **{f"weight.{key}": value for key, value in state.as_dict(packed=True).items()}}
    return stored, dequantize_4bit(codes, state)


def decoded(stored):
    """QLoRA's formula (arXiv 2305.14314, eq. 6): code values times magnitudes, which may be coded themselves."""
    array = {key: value.numpy() for key, value in stored.items()}
    state = json.loads(bytes(array["weight.quant_state.bitsandbytes__nf4"]).decode())
    magnitudes = array["weight.absmax"]
    if "weight.nested_absmax" in array:
        scales = numpy.repeat(array["weight.nested_absmax"], state["nested_blocksize"])[: len(magnitudes)]
        magnitudes = array["weight.nested_quant_map"][magnitudes] * scales + numpy.float32(state["nested_offset"])
    codes = array["weight"].reshape(-1)
    indices = numpy.stack([codes >> 4, codes & 15], axis=1).reshape(-1)
    scales = numpy.repeat(magnitudes, state["blocksize"])[: len(indices)]
    return (array["weight.quant_map"][indices] * scales).reshape(state["shape"])


def is_linear(name, weight):
    kept = ("lm_head", "embed_tokens", "position_embedding", "patch_embedding")
    return name.endswith(".weight") and weight.ndim == 2 and not any(part in name for part in kept)


if __name__ == "__main__":
    weight = torch.randn(96, 168, generator=torch.Generator().manual_seed(5)) * torch.rand(96, 1) ** 3
    weight[3, :128] = 0.0
    tensors = {"weight": weight}
    for kind, nested in (("plain", False), ("nested", True)):
        stored, reference = quantised(weight, nested)
        assert numpy.abs(decoded(stored) - reference.numpy()).max() < 1e-6
        tensors.update({f"{kind}.{name}": value for name, value in stored.items()})
        tensors[f"{kind}.decoded"] = reference
    for name, weight in load_file(HERE / "tiny_llava" / "model.safetensors").items():
        if is_linear(name, weight):
            stored, _ = quantised(weight, True)
            base = name.removesuffix("weight")
            tensors.update({f"checkpoint.{base}{key}": value for key, value in stored.items()})
    tensors = {name: value.contiguous().clone() for name, value in tensors.items()}
    save_file(tensors, HERE / "nf4.safetensors", {"bitsandbytes": bitsandbytes.__version__})
