"""Policy of isr-dpo on any image-text-to-text model of Hugging Face transformers.

A config names the module and the policy in it:

    plugins = [{ module = "isr_transformers" }]

    [policy]
    type = "transformers"
    model = "Qwen/Qwen2.5-VL-3B-Instruct"

| topic | module |
|---|---|
| the policy that isr talks to | `policy.py` |
| what one process computes with | `worker.py` |
| a policy's calls divided over processes; these | `group.py`, `ranks.py` |
| the model sharded over processes | `sharding.py` |
| settings, their help texts and schema | `settings.py` |
| loading: weights, processor, trained parts, LoRA | `model.py` |
| messages to tokens and pixels, answers to tokens | `prompts.py` |
| pixels and features of videos, kept | `vision_cache.py` |
| forward passes: prefill, scores | `engine.py` |
| sampling | `decode.py` |
| gradients and AdamW | `train.py` |
| checkpoints | `checkpoint.py` |
| digest of the weights | `digest.py` |
"""

from .policy import Transformers

__all__ = ["Transformers"]
__version__ = "0.1.0"
