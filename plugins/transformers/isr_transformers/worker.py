"""The model of one process, and its part of each call: that of the plugin's own process, and of those that it starts."""

import hashlib
from dataclasses import dataclass
from typing import List

import torch
from isr_plugin import BadInput, GenerateRequest, Message, Sampling

from . import checkpoint
from .decode import Decoder
from .digest import WeightDigest
from .engine import Engine
from .model import LoadedModel
from .prompts import Prompts
from .sharding import Lockstep, Sharding, open_store
from .train import Trainer
from .vision_cache import ByteCache


@dataclass
class Asked:
    """A request to sample answers, as it goes to another process; `number` names it in progress and when it is cancelled."""
    number: int
    prompt: List[Message]
    sampling: Sampling
    n: int
    seed: int
    streams: bool

    def request(self, tell, cancelled):
        """The request again. `tell(number, progress)` gets its progress, `cancelled` has the numbers of dropped ones."""
        def told(progress):
            tell(self.number, progress)

        return GenerateRequest(self.prompt, self.sampling, self.n, self.seed, told if self.streams else None,
                               lambda: self.number in cancelled)


class Worker:
    """A model with what samples, scores and trains it. Of several processes each calls the methods that are marked so
    together with the others, with its part of the work."""

    def __init__(self, settings, rank=0, tell=None, cancelled=()):
        self.settings, self.rank, self.tell, self.cancelled = settings, rank, tell, cancelled
        self.lockstep, self.pending, self.store = None, None, None

    def load(self):
        """Reads the model, on the host where several processes share it."""
        settings, cores = self.settings, torch.get_num_threads()
        if settings.threads > 0:
            torch.set_num_threads(settings.threads)
        elif settings.processes > 1:
            torch.set_num_threads(max(cores // settings.processes, 1))
        self.loaded = LoadedModel(settings, self.rank)
        self.cache = ByteCache(settings.cache_mb << 20)
        self.prompts = Prompts(self.loaded, self.cache, settings.reasoning)
        if settings.processes == 1:
            self.build()

    def open(self):
        """Opens the store where the processes meet; its port."""
        self.store = open_store(self.settings.processes, self.settings.collective_timeout_s)
        return self.store.port

    def join(self, port):
        """Shares the model with the other processes, together with them, and tries it."""
        settings = self.settings
        self.loaded.sharding = Sharding(self.loaded, self.rank, settings.processes, self.store or port,
                                        settings.collective_timeout_s)
        self.spare = self.prompts.render([Message("user", ["x"])]), [self.prompts.end]
        self.build()
        if not settings.gather:
            self.lockstep = Lockstep(self.loaded.net, self.try_out)

    @torch.no_grad()
    def try_out(self):
        self.engine.logprobs(*self.spare)

    def build(self):
        settings = self.settings
        self.engine = Engine(self.loaded, self.cache)
        self.decoder = Decoder(self.engine, self.prompts, settings.batch)
        if self.loaded.sharding is not None:
            self.try_out()
            self.loaded.sharding.release()
        self.trainer = Trainer(self.loaded, settings.training, self.engine, self.prompts)
        self.digest = WeightDigest(self.loaded, self.identity())

    def identity(self):
        """What else the use of the weights depends on."""
        template = hashlib.sha256(str(self.prompts.processor.chat_template).encode()).hexdigest()
        lora = self.loaded.adapted and sorted(
            (it.r, it.lora_alpha, it.use_rslora) for it in self.loaded.adapted.peft_config.values())
        # Empty as it was before reasoning was separated, where prompts open none and no setting chose.
        reasoning = self.prompts.reasoning
        known = self.settings.reasoning != "auto" or reasoning is not None and reasoning.opened
        reasoning = f" {reasoning}" if known else ""
        return f"{self.loaded.dtype} {self.loaded.net.config._attn_implementation} {template} {lora}{reasoning}"

    def inferred(self, work):
        """What a piece of work without gradients returns, together with the other processes."""
        if self.loaded.sharding is None:
            return work()
        if self.lockstep is not None:
            return self.lockstep.run(work)
        self.loaded.sharding.gather()
        return work()

    def generate(self, requests):
        """For each request its prompt's length or None, and its answers or its BadInput. Together."""
        own = [it.request(self.tell, self.cancelled) if isinstance(it, Asked) else it for it in requests]
        results = self.inferred(lambda: self.decoder.generate(own))
        return [(it._prompt_tokens, result) for it, result in zip(own, results)]

    def score(self, requests):
        """Token ids and log-probs of each request's continuations, or its BadInput. Together."""
        return self.inferred(lambda: [self.scored(it) for it in requests])

    def scored(self, request):
        try:
            ids = [self.prompts.answer_ids(it) for it in request.continuations]
            rendered = self.prompts.render(request.prompt)
        except BadInput as error:
            return error
        begin = [self.prompts.unscored(it) for it in request.continuations]
        scores = self.engine.scores(rendered, ids)
        return [(own[n:], logps[n:].tolist()) for own, logps, n in zip(ids, scores, begin)]

    def prepare(self, sequences):
        """Renders what `forward` takes; token ids of each sequence."""
        examples, answers = self.trainer.examples(sequences)
        self.pending = list(examples)
        return answers

    def forward(self, count, step, seed):
        """Log-probs of what was prepared, of which a process has up to `count`. Together."""
        examples, self.pending = self.pending, None
        self.loaded.sharding.release()
        return self.trainer.forward(examples, step, seed, [self.spare] * (count - len(examples)))

    def backward(self, gradients):
        """Together."""
        self.trainer.backward(gradients)

    def apply(self, step, learning_rate, max_grad_norm):
        """Together."""
        self.loaded.sharding.release()
        return self.trainer.apply(step, learning_rate, max_grad_norm)

    def zero(self):
        self.trainer.zero()

    def checksums(self):
        return self.digest.checksums()

    def collect(self, what):
        """Together."""
        made = checkpoint.collect(what, self.loaded, self.trainer)
        return made if self.rank == 0 else None

    def read(self, folder, what):
        """Reads a checkpoint, and changes nothing."""
        self.pending = checkpoint.read(folder, what, self.loaded, self.trainer)

    def take(self):
        """Takes over what was read."""
        self.loaded.sharding.release()
        found, self.pending = self.pending, None
        checkpoint.take(*found, self.loaded, self.trainer)
        self.cache.clear()

    def drop(self):
        """Forgets what was prepared or read."""
        self.pending = None
