"""Reference of 8-bit AdamW for plugins/torch, in numpy.

    python tests/golden/adamw_8bit.py > tests/golden/adamw_8bit.json

The maps are those of `functional.create_dynamic_map` of bitsandbytes 0.50.2, the step is that of its CUDA kernel
(`kOptimizerStatic8bit2StateBlockwise`): decode, update in float32, change the weights, encode each element as the nearest
value. Its rule that a negative first moment is never encoded as zero is left out, as in plugins/torch. (bitsandbytes's
library for CPUs has no optimiser, and its `quantize_blockwise` does not find the nearest value.)
"""

import json

import numpy as np

BLOCK = 256
COUNT = 5000
STEPS = 6
LEARNING_RATE, BETAS, EPSILON, DECAY = 1e-3, (0.9, 0.999), 1e-8, 0.1

f32 = np.float32


def dynamic_map(signed):
    """`functional.create_dynamic_map` of bitsandbytes 0.50.2 for 8 bits, of which up to 7 are the exponent."""
    data = [0.0, 1.0]
    for i in range(7):
        edges = np.linspace(0.1, 1, (2**i if signed else 2 ** (i + 1)) + 1, dtype=f32)
        means = (10.0 ** (i - 6)) * ((edges[:-1] + edges[1:]) / f32(2)).astype(np.float64)
        data += means.tolist() + ((-means).tolist() if signed else [])
    return np.sort(np.array(data)).astype(f32)


def encode(values, code):
    padded = np.zeros(-(-len(values) // BLOCK) * BLOCK, f32)
    padded[: len(values)] = values
    scales = np.abs(padded.reshape(-1, BLOCK)).max(1)
    relative = values / np.repeat(np.where(scales == 0, f32(1), scales), BLOCK)[: len(values)]
    distances = np.abs(relative.astype(np.float64)[:, None] - code.astype(np.float64)[None, :])
    return distances.argmin(1).astype(np.uint8), scales


def decode(codes, scales, code):
    return code[codes] * np.repeat(scales, BLOCK)[: len(codes)]


def uniform(stream):
    """Numbers in [-1, 1) that any language computes alike."""
    index = np.arange(COUNT, dtype=np.uint64)
    mixed = ((index + np.uint64(stream * COUNT)) * np.uint64(2654435761)) % np.uint64(2**32)
    return mixed.astype(np.float64) / 2.0**31 - 1.0


def gradient(step):
    """Both signs; magnitudes from 1/64 to 1 within each block."""
    x = uniform(step)
    magnitude = np.ldexp(1.0 + 3.0 * np.abs(x), (-2 * np.floor(np.abs(x) * 1000.0 % 3.0)).astype(int) - 2)
    return np.copysign(magnitude, x).astype(f32)


signed, unsigned = dynamic_map(True), dynamic_map(False)
weights = uniform(0).astype(f32)
first = encode(np.zeros(COUNT, f32), signed)
second = encode(np.zeros(COUNT, f32), unsigned)
for step in range(1, STEPS + 1):
    g = gradient(step)
    m, v = decode(*first, signed), decode(*second, unsigned)
    m = m * f32(BETAS[0]) + f32(1 - BETAS[0]) * g
    v = v * f32(BETAS[1]) + f32(1 - BETAS[1]) * g * g
    rate = LEARNING_RATE / (1 - BETAS[0] ** step)
    root = np.sqrt(v) / f32(np.sqrt(1 - BETAS[1] ** step))
    weights = weights * f32(1 - LEARNING_RATE * DECAY)
    weights = weights - f32(rate) * m / (root + f32(EPSILON))
    first, second = encode(m, signed), encode(v, unsigned)

sample = gradient(9)
codes, scales = encode(sample, signed)
positive, their_scales = encode(sample * sample, unsigned)
print(
    json.dumps(
        {
            "signed": signed.tolist(),
            "unsigned": unsigned.tolist(),
            "encoded": {
                "signed": codes.tobytes().hex(),
                "signed_scales": scales.tolist(),
                "unsigned": positive.tobytes().hex(),
                "unsigned_scales": their_scales.tolist(),
            },
            "steps": STEPS,
            "weights": [float(w) for w in weights[::37]],
            "first": first[0].tobytes().hex(),
            "second": second[0].tobytes().hex(),
        },
    )
)
