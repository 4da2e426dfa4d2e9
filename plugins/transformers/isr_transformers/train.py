"""Gradients and AdamW (arXiv 1711.05101, by `torch.optim.AdamW`). Gradients add up in float32, and weights in bfloat16
have float32 master copies. Of weights that several processes share, each process updates its part, with the moments of
that part."""

import hashlib

import torch
from torch.distributed.tensor import DTensor

from .sharding import local


class Trainer:
    """Trains the parameters of a model that require gradients."""

    def __init__(self, loaded, training, engine, prompts):
        self.loaded, self.training, self.engine, self.prompts = loaded, training, engine, prompts
        self.sharding = loaded.sharding
        self.weights = dict(loaded.trained())
        self.own = {name: local(weight) for name, weight in self.weights.items()}  # what this process has of each
        self.masters, self.optimizer, self.open = {}, None, None
        self.passes = 0  # forward calls of this step, whose dropout differs
        for name, weight in self.weights.items():
            if not isinstance(weight, DTensor):
                weight.register_post_accumulate_grad_hook(lambda weight, name=name: self.gathered(name, weight))

    def gathered(self, name, weight):
        """Moves a gradient to the float32 sum as soon as a sequence's is complete."""
        master = self.masters[name]
        if master is not weight and weight.grad is not None:
            gradient = local(weight.grad).float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            weight.grad = None

    def reset(self):
        """Begins with moments of zero and master copies of the weights as they are."""
        self.masters = {name: own if own.dtype == torch.float32 else own.detach().float() for name, own in self.own.items()}
        self.optimizer = torch.optim.AdamW(
            self.masters.values(), lr=0.0, betas=tuple(self.training.betas), eps=self.training.epsilon,
            weight_decay=self.training.weight_decay)
        self.zero()

    def examples(self, sequences):
        """What `forward` takes: rendered prompts with the token ids of the answers, and these. BadInput where a sequence
        cannot be processed; of a prompt, as soon as it is its turn."""
        self.open = None
        answers = [self.prompts.answer_ids(it.continuation) for it in sequences]
        return ((self.prompts.render(it.prompt), ids) for it, ids in zip(sequences, answers)), answers

    def forward(self, examples, step, seed, spare=()):
        """Log-probs of each example's answer; keeps the graphs. `spare` are examples without consequence, by which a process
        with less to do takes part in the work of others."""
        self.open = None
        if self.optimizer is None or step == 0 and self.has_stepped():
            self.reset()
        torch.manual_seed(dropout_seed(seed, self.passes, 0 if self.sharding is None else self.sharding.rank))
        self.passes += 1
        self.loaded.net.train()
        if not self.training.tower:
            self.loaded.net.get_encoder(modality="image").eval()
        try:
            logprobs = [self.engine.logprobs(rendered, ids) for rendered, ids in examples]
            idle = [self.engine.logprobs(rendered, ids) for rendered, ids in spare]
        finally:
            self.loaded.net.eval()
        self.open = logprobs, idle
        return [logps.tolist() for logps in logprobs]

    def backward(self, gradients):
        """Adds to the gradients, a sequence after the other: within one the sum is autograd's."""
        if self.open is None:
            raise ValueError("backward without a forward before it")
        (logprobs, idle), self.open = self.open, None
        sizes = [len(it) for it in gradients], [it.numel() for it in logprobs]
        if sizes[0] != sizes[1]:
            raise ValueError(f"backward got gradients of {sizes[0]} tokens for sequences of {sizes[1]}")
        # Layers that are recomputed draw the same dropout again; without that, the mode does not matter here.
        self.loaded.net.train(self.training.gradient_checkpointing)
        for logps, gradient in zip(logprobs, gradients):
            self.propagate((logps * torch.tensor(gradient, device=logps.device)).sum())
        for logps in idle:
            self.propagate((logps * 0).sum())
        self.loaded.net.eval()

    def propagate(self, value):
        value.backward()
        for name, weight in self.weights.items():
            if isinstance(weight, DTensor):
                self.gathered(name, weight)

    def apply(self, step, learning_rate, max_grad_norm):
        """Takes a step by the gradients that have added up; their L2 norm before clipping. Without effect on the weights
        where that is not finite."""
        self.open = None
        if self.optimizer is None or step == 0 and self.has_stepped():
            self.reset()
        bound = float("inf") if max_grad_norm is None else max_grad_norm
        if self.sharding is None:
            masters = [it for it in self.masters.values() if it.grad is not None]
            norm = torch.nn.utils.clip_grad_norm_(masters, bound).item() if masters else 0.0
        else:
            norm = self.clip(bound)
        if norm < float("inf"):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            self.optimizer.step()
            self.publish()
        self.zero()
        return norm

    def clip(self, bound):
        """Clips the gradients by their norm over all processes; that norm."""
        self.sharding.add_up(self.weights, self.masters)
        norm = self.sharding.norm(self.weights, self.masters)
        torch.nn.utils.clip_grads_with_norm_(self.masters.values(), bound, torch.tensor(norm))
        return norm

    @torch.no_grad()
    def publish(self):
        """Rounds the master copies to the weights."""
        for name, own in self.own.items():
            if self.masters[name] is not own:
                own.copy_(self.masters[name])

    def zero(self):
        """Drops gradients."""
        self.open, self.passes = None, 0
        for weight in [*self.masters.values(), *self.weights.values()]:
            weight.grad = None

    def has_stepped(self):
        return self.optimizer is not None and len(self.optimizer.state) > 0

    def forget(self):
        """Drops the optimiser's state, since other weights were loaded."""
        self.masters, self.optimizer, self.open = {}, None, None
        for weight in self.weights.values():
            weight.grad = None

    def state(self):
        """The optimiser's state by name: moments, steps and master copies. Of several processes all call it together, and
        the first one gets it."""
        tensors = [(key, name, value.contiguous()) for key, name, value in self.held()]
        if self.sharding is None:
            return {f"{key}.{name}": value for key, name, value in tensors}
        return self.sharding.collected((f"{key}.{name}", value, value if key == "step" else self.weights[name])
                                       for key, name, value in tensors)

    def held(self):
        for name, master in self.masters.items():
            kept = self.optimizer.state.get(master, {})
            yield from ((key, name, value.detach().reshape(value.shape)) for key, value in kept.items())
            if master is not self.own[name]:
                yield "master", name, master

    @torch.no_grad()
    def restore(self, tensors):
        """Takes over what `state` gave, after the weights were loaded."""
        self.reset()
        for name, master in self.masters.items():
            weight = self.weights[name]
            if f"master.{name}" in tensors:
                master.copy_(self.loaded.part(tensors[f"master.{name}"], weight))
            kept = {key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"{key}.{name}" in tensors}
            if kept:
                self.optimizer.state[master] = {
                    key: value.clone() if key == "step" else self.loaded.part(value, weight).to(master.device, copy=True)
                    for key, value in kept.items()}


def dropout_seed(seed, number, rank=0):
    """The seed of a forward call's dropout, in each process another."""
    text = f"{seed} {number}" + (f" {rank}" if rank else "")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")
