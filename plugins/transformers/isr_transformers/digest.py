"""Digest of weights that costs one pass over those that changed."""

import hashlib

import torch

# Elements that are mixed at a time: bounds the int64 temporaries to 32 MiB each.
CHUNK = 1 << 22
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def checksum(tensor) -> int:
    """A 64-bit checksum of a tensor's bits: the sum, modulo 2^64, of each element mixed with its index. Integer
    arithmetic, so that every device gives the same."""
    flat = tensor.detach().contiguous().view(-1)
    flat = flat.view(_INTEGERS[flat.element_size()])
    total = 0
    for start in range(0, flat.numel(), CHUNK):
        bits = flat[start:start + CHUNK].to(torch.int64)
        index = torch.arange(start, start + bits.numel(), device=bits.device)
        mixed = (bits + 1) * (2 * index + 1) * -7046029254386353131  # an odd constant: a bijection modulo 2^64
        mixed ^= mixed >> 29
        mixed = mixed * -4658895280553007687
        mixed ^= mixed >> 32
        total += int(mixed.sum())
    return total & (1 << 64) - 1


class WeightDigest:
    """Digest of a model's weights and of a text about their use. Tensors are looked at again where their version counter
    says that they were written to."""

    def __init__(self, model, identity: str):
        self.model, self.identity = model, identity
        self.known = {}  # name -> (version, address, checksum)

    def text(self) -> str:
        """SHA-256 in hex over names, shapes, dtypes and checksums."""
        digest = hashlib.sha256(self.identity.encode())
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            state = (tensor._version, tensor.data_ptr())
            if self.known.get(name, ())[:2] != state:
                self.known[name] = (*state, checksum(tensor))
            digest.update(f"{name} {list(tensor.shape)} {tensor.dtype} {self.known[name][2]}\n".encode())
        return digest.hexdigest()
