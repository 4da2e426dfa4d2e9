"""Digest of weights that costs one pass over those that changed."""

import hashlib

import torch

# Elements that are mixed at a time: bounds the int64 temporaries to 32 MiB each.
CHUNK = 1 << 22
MASK = (1 << 64) - 1
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def checksum(tensor, first=0) -> int:
    """A 64-bit checksum of a tensor's bits: the sum, modulo 2^64, of each element mixed with its index. Integer
    arithmetic, so that every device gives the same; and a sum, so that those of a tensor's parts add up to its own, where
    `first` is the index of a part's first element."""
    flat = tensor.detach().contiguous().view(-1)
    flat = flat.view(_INTEGERS[flat.element_size()])
    total = 0
    for start in range(0, flat.numel(), CHUNK):
        bits = flat[start:start + CHUNK].to(torch.int64)
        index = torch.arange(first + start, first + start + bits.numel(), device=bits.device)
        mixed = (bits + 1) * (2 * index + 1) * -7046029254386353131  # an odd constant: a bijection modulo 2^64
        mixed ^= mixed >> 29
        mixed = mixed * -4658895280553007687
        mixed ^= mixed >> 32
        total += int(mixed.sum())
    return total & MASK


class WeightDigest:
    """Digest of a model's weights and of a text about their use. Tensors are looked at again where their version counter
    says that they were written to."""

    def __init__(self, loaded, identity: str):
        self.loaded, self.identity = loaded, identity
        self.known = {}  # name -> (version, address, checksum)

    def checksums(self):
        """Checksums by name of what this process holds of the weights."""
        found = {}
        for name, tensor in self.loaded.tensors().items():
            own, first = self.loaded.held(tensor)
            state = (own._version, own.data_ptr())
            if self.known.get(name, ())[:2] != state:
                self.known[name] = (*state, checksum(own, first))
            found[name] = self.known[name][2]
        return found

    def text(self, *others) -> str:
        """SHA-256 in hex over names, shapes, dtypes and checksums; `others` are the checksums of other processes, which
        hold the rest of the weights."""
        digest = hashlib.sha256(self.identity.encode())
        own = self.checksums()
        for name, tensor in self.loaded.tensors().items():
            whole = own[name] + sum(it[name] for it in others) & MASK
            digest.update(f"{name} {list(tensor.shape)} {tensor.dtype} {whole}\n".encode())
        return digest.hexdigest()
