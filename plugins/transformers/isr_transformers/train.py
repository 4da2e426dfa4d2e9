"""Gradients and AdamW (arXiv 1711.05101, by `torch.optim.AdamW`). Gradients add up in float32, and weights in bfloat16
have float32 master copies."""

import hashlib

import torch


class Trainer:
    """Trains the parameters of a model that require gradients."""

    def __init__(self, loaded, training, engine, prompts):
        self.loaded, self.training, self.engine, self.prompts = loaded, training, engine, prompts
        self.weights = dict(loaded.trained())
        self.masters, self.optimizer, self.open = {}, None, None
        self.passes = 0  # forward calls of this step, whose dropout differs
        for name, weight in self.weights.items():
            weight.register_post_accumulate_grad_hook(self.gathered(name))

    def gathered(self, name):
        """Moves a gradient to the float32 sum as soon as a sequence's is complete."""
        def hook(weight):
            master = self.masters[name]
            if master is not weight:
                gradient = weight.grad.float()
                master.grad = gradient if master.grad is None else master.grad.add_(gradient)
                weight.grad = None
        return hook

    def reset(self):
        """Begins with moments of zero and master copies of the weights as they are."""
        self.masters = {name: weight if weight.dtype == torch.float32 else weight.detach().float()
                        for name, weight in self.weights.items()}
        self.optimizer = torch.optim.AdamW(
            self.masters.values(), lr=0.0, betas=tuple(self.training.betas), eps=self.training.epsilon,
            weight_decay=self.training.weight_decay)
        self.zero()

    def forward(self, sequences, step, seed):
        """Token ids and log-probs of each sequence; keeps the graphs."""
        self.open = None
        if self.optimizer is None or step == 0 and self.has_stepped():
            self.reset()
        torch.manual_seed(dropout_seed(seed, self.passes))
        self.passes += 1
        self.loaded.net.train()
        if not self.training.tower:
            self.loaded.net.get_encoder(modality="image").eval()
        try:
            answers = [self.prompts.answer_ids(it.continuation) for it in sequences]
            logprobs = [self.engine.logprobs(self.prompts.render(it.prompt), ids) for it, ids in zip(sequences, answers)]
        finally:
            self.loaded.net.eval()
        self.open = logprobs
        return [(ids, logps.tolist()) for ids, logps in zip(answers, logprobs)]

    def backward(self, gradients):
        """Adds to the gradients, a sequence after the other: within one the sum is autograd's."""
        if self.open is None:
            raise ValueError("backward without a forward before it")
        logprobs, self.open = self.open, None
        sizes = [len(it) for it in gradients], [it.numel() for it in logprobs]
        if sizes[0] != sizes[1]:
            raise ValueError(f"backward got gradients of {sizes[0]} tokens for sequences of {sizes[1]}")
        # Layers that are recomputed draw the same dropout again; without that, the mode does not matter here.
        self.loaded.net.train(self.training.gradient_checkpointing)
        for logps, gradient in zip(logprobs, gradients):
            (logps * torch.tensor(gradient, device=logps.device)).sum().backward()
        self.loaded.net.eval()

    def apply(self, step, learning_rate, max_grad_norm):
        """Takes a step by the gradients that have added up; their L2 norm before clipping. Without effect on the weights
        where that is not finite."""
        self.open = None
        if self.optimizer is None or step == 0 and self.has_stepped():
            self.reset()
        masters = [it for it in self.masters.values() if it.grad is not None]
        bound = float("inf") if max_grad_norm is None else max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(masters, bound).item() if masters else 0.0
        if norm < float("inf"):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            self.optimizer.step()
            self.publish()
        self.zero()
        return norm

    @torch.no_grad()
    def publish(self):
        """Rounds the master copies to the weights."""
        for name, weight in self.weights.items():
            if self.masters[name] is not weight:
                weight.copy_(self.masters[name])

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
        """The optimiser's state by name: moments, steps and master copies."""
        tensors = {}
        for name, master in self.masters.items():
            kept = self.optimizer.state.get(master, {})
            tensors.update({f"{key}.{name}": value.detach().reshape(value.shape) for key, value in kept.items()})
            if master is not self.weights[name]:
                tensors[f"master.{name}"] = master
        return {key: value.contiguous() for key, value in tensors.items()}

    @torch.no_grad()
    def restore(self, tensors):
        """Takes over what `state` gave, after the weights were loaded."""
        self.reset()
        for name, master in self.masters.items():
            if f"master.{name}" in tensors:
                master.copy_(tensors[f"master.{name}"])
            kept = {key: tensors[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"{key}.{name}" in tensors}
            if kept:
                self.optimizer.state[master] = {key: value.clone() if key == "step" else value.to(master.device, copy=True)
                                                for key, value in kept.items()}


def dropout_seed(seed, number):
    """The seed of a forward call's dropout."""
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:7], "little")
