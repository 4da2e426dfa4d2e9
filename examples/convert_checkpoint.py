"""Converts the pickled weights of a checkpoint folder (pytorch_model*.bin) to safetensors.

    python examples/convert_checkpoint.py FOLDER

Needs torch and safetensors (`pip install torch safetensors`). Files are read with `weights_only=True`,
which runs no code from them; one is in memory at a time. The pickled files stay; `isr` reads the new
ones. Remove the old ones when the new ones are known to be good.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file


def main(folder: Path) -> None:
    shards = sorted(folder.glob("pytorch_model*.bin"))
    if not shards:
        sys.exit(f"{folder} has no pytorch_model*.bin")
    weight_map, total, seen = {}, 0, {}
    for number, shard in enumerate(shards, start=1):
        tensors = torch.load(shard, map_location="cpu", weights_only=True, mmap=True)
        tensors = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}
        alone = len(shards) == 1
        name = "model.safetensors" if alone else f"model-{number:05}-of-{len(shards):05}.safetensors"
        # Tensors that share memory (tied weights) are written once each: the format has no sharing.
        copies = {}
        for key, tensor in tensors.items():
            place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tuple(tensor.shape))
            copies[key] = tensor.clone() if place in seen else tensor.contiguous()
            seen[place] = key
            weight_map[key] = name
            total += tensor.numel() * tensor.element_size()
        seen.clear()
        save_file(copies, folder / name, metadata={"format": "pt"})
        print(f"{shard.name} -> {name}: {len(copies)} tensors")
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        path = folder / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2) + "\n")
        print(f"wrote {path.name}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
