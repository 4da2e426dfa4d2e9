"""The policy `transformers`."""

import os

from isr_plugin import BadInput, Policy, Scored, caught

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
        self.group = None
        if settings.processes > 1:
            from .group import Group

            self.group = Group(settings)
        # Imported here, so that isr lists the policy without waiting for torch.
        from . import checkpoint
        from .worker import Worker

        self.micro_batch = settings.training.micro_batch * settings.processes
        self.checkpoint, self.worker = checkpoint, Worker(settings)
        if self.group is None:
            self.worker.load()
        else:
            self.group.load(self.worker)
        for name in ("loaded", "cache", "prompts", "engine", "decoder", "trainer", "digest"):
            setattr(self, name, getattr(self.worker, name))
        self.reasoning = self.prompts.reasoning

    def fingerprint(self):
        return self.digest.text() if self.group is None else self.group.fingerprint()

    def generate(self, request):
        return raised(self.generate_batch([request])[0])

    def generate_batch(self, requests):
        return self.decoder.generate(requests) if self.group is None else self.group.generate(requests)

    def score(self, request):
        return raised(self.score_batch([request])[0])

    def score_batch(self, requests):
        if self.group is not None:
            found = self.group.score(requests)
        else:
            found = [caught(self.worker.scored, request) for request in requests]
        return [it if isinstance(it, Exception) else scores(it) for it in found]

    def forward(self, sequences, step, seed):
        if self.group is not None:
            return scores(self.group.forward(sequences, step, seed))
        examples, answers = self.trainer.examples(sequences)
        return scores(zip(answers, self.trainer.forward(examples, step, seed)))

    def backward(self, gradients):
        (self.trainer if self.group is None else self.group).backward(gradients)

    def apply(self, step, learning_rate, max_grad_norm):
        return (self.trainer if self.group is None else self.group).apply(step, learning_rate, max_grad_norm)

    def zero(self):
        (self.trainer if self.group is None else self.group).zero()

    def save(self, dir, what):
        if self.group is None:
            self.checkpoint.save(dir, what, self.loaded, self.trainer)
        else:
            self.checkpoint.write(dir, self.loaded, *self.group.collect(what))

    def load(self, dir, what):
        if not os.path.isdir(dir):
            raise ValueError(f"there is no folder {dir}")
        if self.group is None:
            self.checkpoint.load(dir, what, self.loaded, self.trainer)
            self.cache.clear()
        else:
            self.group.take_over(dir, what)

    def close(self):
        """Ends the other processes, where there are some."""
        if self.group is not None:
            self.group.close()


def scores(found):
    return [Scored(ids, logps) for ids, logps in found]


def raised(value):
    """A value, or the exception in its place."""
    if isinstance(value, Exception):
        raise value
    return value
