"""Forward passes: the prompt's, and log-probs of what follows it."""

import copy
import inspect

import torch

from .vision_cache import CachedFeatures

# Inputs with one number a token, and what stands for the tokens of an answer.
PER_TOKEN = {"attention_mask": 1, "token_type_ids": 0, "mm_token_type_ids": 0}


class Prefilled:
    """A prompt after its forward pass: keys and values, and float32 logits [vocabulary] of the token that follows.
    `shift` is how far positions are ahead of indices (M-RoPE), else None."""

    def __init__(self, cache, logits, length, shift):
        self.cache, self.logits, self.length, self.shift = cache, logits, length, shift


class Engine:
    """Runs a model on one sequence at a time, without padding, so that sums are taken in the same order whatever else
    there is to compute."""

    def __init__(self, loaded, cache):
        self.net, self.device, self.dtype = loaded.net, loaded.device, loaded.dtype
        self.features = CachedFeatures(loaded.inner, cache) if loaded.has_frozen_vision() else None
        self.rotary = [module for module in self.net.modules() if hasattr(module, "rope_deltas")]
        self.keeps_tail = "logits_to_keep" in inspect.signature(self.net.forward).parameters

    @torch.no_grad()
    def prefill(self, rendered) -> Prefilled:
        """The forward pass of a prompt."""
        self.net.eval()
        out = self.run(rendered, rendered.inputs, 1, use_cache=True)
        shift = next((it.rope_deltas for it in self.rotary if it.rope_deltas is not None), None)
        if self.rotary and shift is None:
            shift = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        return Prefilled(out.past_key_values, out.logits[0, -1].float(), rendered.length, shift)

    @torch.no_grad()
    def scores(self, rendered, continuations):
        """Log-probs of the tokens of each continuation [tokens], float32."""
        prompt, scores = self.prefill(rendered), []
        first = prompt.logits.log_softmax(-1)
        for ids in continuations:
            logps = first[ids[0]][None]
            if len(ids) > 1:
                before = torch.tensor([ids[:-1]], device=self.device)
                cache = prompt.cache if ids is continuations[-1] else copy.deepcopy(prompt.cache)
                out = self.net(input_ids=before, past_key_values=cache, use_cache=True)
                logps = torch.cat([logps, picked(out.logits[0], ids[1:])])
            scores.append(logps)
        return scores

    def logprobs(self, rendered, ids):
        """Log-probs of an answer's tokens [tokens], float32, with the graph that leads to them."""
        answer = torch.tensor([ids])
        longer = {**rendered.inputs, "input_ids": torch.cat([rendered.inputs["input_ids"], answer], dim=1)}
        for name, value in PER_TOKEN.items():
            if longer.get(name) is not None:
                longer[name] = torch.cat([longer[name], torch.full_like(answer, value).to(longer[name].dtype)], dim=1)
        out = self.run(rendered, longer, len(ids) + 1, use_cache=False)
        return picked(out.logits[0, -len(ids) - 1:-1], ids)

    def run(self, rendered, inputs, tail, **settings):
        """A forward pass from the first token on."""
        for module in self.rotary:
            module.rope_deltas = None
        if self.features is not None:
            self.features.subject = rendered.videos
        if self.keeps_tail:
            settings["logits_to_keep"] = tail
        try:
            return self.net(**{name: self.moved(name, it) for name, it in inputs.items()}, **settings)
        finally:
            if self.features is not None:
                self.features.subject = None

    def moved(self, name, value):
        """An input on the device, pixels in the model's dtype."""
        if not isinstance(value, torch.Tensor):
            return value
        if name.startswith("pixel_values") and value.is_floating_point():
            return value.to(self.device, self.dtype)
        return value.to(self.device)


def picked(logits, ids):
    """Log-probs of tokens [tokens] by logits [tokens, vocabulary], at temperature 1 in float32."""
    chosen = torch.tensor(ids, device=logits.device)[:, None]
    return logits.float().log_softmax(-1).gather(1, chosen)[:, 0]
