"""Calls of policies and encoders."""

import dataclasses

from . import _policy
from ._video import read_video, write_features


class Models:
    """A component that is a policy or an encoder, with the folder whose files it shares with isr."""

    METHODS = ("properties", "encode", "generate", "score", "forward", "backward", "apply", "save", "load")

    def __init__(self, component, folder, cancelled):
        self.component, self.folder, self.cancelled = component, folder, cancelled

    def call(self, call):
        """The reply to a call of one of `METHODS`."""
        method, params, it = call["method"], call["params"], self.component
        if method == "properties":
            return self.properties()
        if method == "encode":
            return write_features(self.folder, it.encode(read_video(self.folder, params)))
        if method in ("generate", "score"):
            argument = self.argument(call)
            return self.value(method, argument, getattr(it, method)(argument))
        if method == "forward":
            if params.get("begin"):
                it.zero()
            scores = it.forward(_policy.read_sequences(self.folder, params), params["step"], params["seed"])
            return {"scores": _policy.scores_message(method, scores)}
        if method == "backward":
            it.backward(params["gradients"])
            return None
        if method == "apply":
            norm = it.apply(params["step"], params["learning_rate"], params["max_grad_norm"])
            return {"grad_norm": _policy.norm_message(norm), "fingerprint": _policy.told_fingerprint(it)}
        if method == "save":
            it.save(params["dir"], params["what"])
            return None
        it.load(params["dir"], params["what"])
        return {"fingerprint": _policy.told_fingerprint(it)}

    def properties(self):
        """What isr asks of a new component."""
        told = {"fingerprint": _policy.told_fingerprint(self.component)}
        if self.component.kind == "encoder":
            return {**told, "device_key": str(self.component.device_key)}
        told.update(micro_batch=int(self.component.micro_batch), encoder=None)
        reasoning = getattr(self.component, "reasoning", None)
        return told if reasoning is None else {**told, "reasoning": dataclasses.asdict(reasoning)}

    def argument(self, call):
        """The request of a `generate` or a `score`."""
        if call["method"] == "score":
            return _policy.read_score(self.folder, call["params"])
        number = call["id"]
        return _policy.read_generate(self.folder, call, lambda: number in self.cancelled)

    def value(self, method, request, value):
        """The reply to a `generate` or a `score`, from what the component returned."""
        if method == "generate":
            return _policy.responses_message(method, request, value, self.component)
        scores = _policy.scores_message(method, value)
        return {"policy": _policy.told_fingerprint(self.component), "scores": scores}
