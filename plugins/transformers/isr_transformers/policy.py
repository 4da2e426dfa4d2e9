"""The policy `transformers`."""

import hashlib
import os

from isr_plugin import BadInput, Policy, Scored

from .settings import Settings, read, schema


class Transformers(Policy):
    """Any image-text-to-text model of Hugging Face transformers with a video or an image processor.

    Prompts are rendered by the model's own chat template and processor; frames are those that isr sampled. Checkpoints
    are what `save_pretrained` writes. `docs/transformers.md` lists what is supported."""

    name = "transformers"
    version = "0.1.0"
    schema = schema()
    example = 'model = "Qwen/Qwen2.5-VL-3B-Instruct"'

    def setup(self):
        settings = read(Settings, self.settings)
        # Imported here, so that isr lists the policy without waiting for torch.
        import torch

        from . import checkpoint
        from .decode import Decoder
        from .digest import WeightDigest
        from .engine import Engine
        from .model import LoadedModel
        from .prompts import Prompts
        from .train import Trainer
        from .vision_cache import ByteCache

        if settings.threads > 0:
            torch.set_num_threads(settings.threads)
        self.micro_batch = settings.training.micro_batch
        self.checkpoint, self.cache = checkpoint, ByteCache(settings.cache_mb << 20)
        self.loaded = LoadedModel(settings)
        self.prompts = Prompts(self.loaded, self.cache, settings.reasoning)
        self.reasoning = self.prompts.reasoning
        self.chosen_reasoning = settings.reasoning != "auto"
        self.engine = Engine(self.loaded, self.cache)
        self.decoder = Decoder(self.engine, self.prompts, settings.batch)
        self.trainer = Trainer(self.loaded, settings.training, self.engine, self.prompts)
        self.digest = WeightDigest(self.loaded.net, self.identity())

    def identity(self):
        """What else the use of the weights depends on."""
        template = hashlib.sha256(str(self.prompts.processor.chat_template).encode()).hexdigest()
        lora = self.loaded.adapted and sorted(
            (it.r, it.lora_alpha, it.use_rslora) for it in self.loaded.adapted.peft_config.values())
        # Empty as it was before reasoning was separated, where prompts open none and no setting chose.
        known = self.chosen_reasoning or self.reasoning is not None and self.reasoning.opened
        reasoning = f" {self.reasoning}" if known else ""
        return f"{self.loaded.dtype} {self.loaded.net.config._attn_implementation} {template} {lora}{reasoning}"

    def fingerprint(self):
        return self.digest.text()

    def generate(self, request):
        return raised(self.generate_batch([request])[0])

    def generate_batch(self, requests):
        return self.decoder.generate(requests)

    def score(self, request):
        ids = [self.prompts.answer_ids(it) for it in request.continuations]
        scores = self.engine.scores(self.prompts.render(request.prompt), ids)
        begin = [self.prompts.unscored(it) for it in request.continuations]
        return [Scored(own[n:], logps[n:].tolist()) for own, logps, n in zip(ids, scores, begin)]

    def forward(self, sequences, step, seed):
        return [Scored(ids, logps) for ids, logps in self.trainer.forward(sequences, step, seed)]

    def backward(self, gradients):
        self.trainer.backward(gradients)

    def apply(self, step, learning_rate, max_grad_norm):
        return self.trainer.apply(step, learning_rate, max_grad_norm)

    def zero(self):
        self.trainer.zero()

    def save(self, dir, what):
        self.checkpoint.save(dir, what, self.loaded, self.trainer)

    def load(self, dir, what):
        if not os.path.isdir(dir):
            raise ValueError(f"there is no folder {dir}")
        self.checkpoint.load(dir, what, self.loaded, self.trainer)
        self.cache.clear()


def raised(value):
    """A value, or the exception in its place."""
    if isinstance(value, BadInput):
        raise value
    return value
