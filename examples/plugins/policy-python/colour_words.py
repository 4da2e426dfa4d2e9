"""A policy without a library: a log-linear model of words, which sees the mean colour of a video."""

import hashlib
import json
import math
import os
import random
import re
import struct

from isr_plugin import BadInput, Policy, Response, Scored

END, UNKNOWN = 0, 1
WORDS = [".", ",", "a", "and", "ball", "bar", "black", "blue", "bounces", "circle", "clip", "colour", "down", "green", "grows",
         "in", "is", "it", "left", "moves", "no", "object", "of", "on", "orange", "purple", "red", "right", "rotates",
         "shape", "shows", "shrinks", "square", "still", "stays", "the", "there", "triangle", "turns", "up", "video",
         "white", "yellow", "yes"]


class ColourWords(Policy):
    """Log-linear model of the next word: its logits are the sum of a weight vector of the word before, one of each word
    of the prompt, and those of red, green and blue by how much of each the video has. Trained by gradient descent with
    momentum. All numbers are those of Python, so it runs anywhere."""

    version = "0.1.0"
    defaults = {"words": WORDS, "momentum": 0.9, "micro_batch": 4}

    def setup(self):
        self.micro_batch = self.settings["micro_batch"]
        if self.micro_batch < 1:
            raise ValueError(f"micro_batch is {self.micro_batch}; it must be at least 1")
        if not 0 <= self.settings["momentum"] < 1:
            raise ValueError(f"momentum is {self.settings['momentum']}; it must be in [0, 1)")
        self.vocabulary = ["<end>", "<unknown>", *self.settings["words"]]
        self.ids = {word: token for token, word in enumerate(self.vocabulary)}
        if len(self.ids) < len(self.vocabulary):
            raise ValueError("a word stands twice in words, or is one of <end> and <unknown>")
        # Weight vectors by feature, one number a word; a feature that was never trained has none.
        self.weights, self.velocity, self.gradients = {}, {}, {}
        self.kept, self.digest, self.colours = [], None, {}

    def fingerprint(self):
        if self.digest is None:
            digest = hashlib.sha256(repr((self.version, self.vocabulary)).encode())
            for feature, vector in sorted(self.weights.items()):
                digest.update(feature.encode() + b"\0" + struct.pack(f"<{len(vector)}d", *vector))
            self.digest = digest.hexdigest()
        return self.digest

    # The model: features of a prompt, logits, log-probs and their derivatives.

    def words(self, text):
        return [self.ids.get(word, UNKNOWN) for word in re.findall(r"\w+|[^\w\s]", text.lower())]

    def context(self, prompt):
        """Features of a prompt with their values."""
        if not prompt:
            raise BadInput("the prompt has no message")
        features = {"always": 1.0}
        for part in (part for message in prompt for part in message.parts):
            if isinstance(part, str):
                features.update((f"asked {word}", 1.0) for word in set(self.words(part)) - {UNKNOWN})
            else:
                features.update(zip(("red", "green", "blue"), self.colour(part)))
        return features

    def colour(self, video):
        """Mean of red, green and blue over all pixels, from 0 to 1."""
        if video.key not in self.colours:
            pixels = memoryview(video.pixels()).cast("B")
            self.colours[video.key] = [sum(pixels[channel::3]) / (255 * len(pixels) // 3) for channel in range(3)]
        return self.colours[video.key]

    def probabilities(self, features, before):
        """Log-prob of each word after the word `before`."""
        logits = [0.0] * len(self.vocabulary)
        for feature, value in {**features, f"after {before}": 1.0}.items():
            for token, weight in enumerate(self.weights.get(feature, ())):
                logits[token] += value * weight
        most = max(logits)
        total = most + math.log(math.fsum(math.exp(logit - most) for logit in logits))
        return [logit - total for logit in logits]

    def scored(self, prompt, continuation):
        if continuation.kind == "tokens":
            tokens = continuation.token_ids
            if any(token >= len(self.vocabulary) for token in tokens):
                raise BadInput(f"a token of {tokens} is none of the {len(self.vocabulary)} of the model")
        else:
            tokens = self.words(continuation.text) + [END] * (continuation.kind == "answer")
        features = self.context(prompt)
        steps = list(zip([END, *tokens], tokens))
        return Scored(tokens, [self.probabilities(features, before)[token] for before, token in steps])

    # Answers.

    def generate(self, request):
        features = self.context(request.prompt)
        request.prompt_tokens(sum(len(self.words(part)) for message in request.prompt for part in message.parts
                                  if isinstance(part, str)))
        return [self.answer(request, features, index) for index in range(request.n)]

    def answer(self, request, features, index):
        sampling, draws = request.sampling, random.Random(f"{request.seed} {index}")
        tokens, logprobs, text, finish_reason = [], [], "", "length"
        while len(tokens) < sampling.max_new_tokens and not request.cancelled():
            known = self.probabilities(features, tokens[-1] if tokens else END)
            token = drawn(known, sampling, draws)
            tokens.append(token)
            logprobs.append(known[token])
            if token == END:
                finish_reason = "stop"
                break
            longer = " ".join(self.vocabulary[token] for token in tokens)
            ends = [longer.find(stop) for stop in sampling.stop if stop in longer]
            if ends:
                text, finish_reason = longer[:min(ends)], "stop"
                break
            # With stop texts nothing is told: a piece may turn out to be part of one.
            if not sampling.stop:
                request.progress(index, longer[len(text):])
            text = longer
        return Response(text, tokens, logprobs, finish_reason)

    def score(self, request):
        return [self.scored(request.prompt, it) for it in request.continuations]

    # Training.

    def zero(self):
        self.gradients, self.kept = {}, []

    def forward(self, sequences, step, seed):
        scored = [self.scored(it.prompt, it.continuation) for it in sequences]
        self.kept = [(self.context(it.prompt), scores.token_ids) for it, scores in zip(sequences, scored)]
        return scored

    def backward(self, gradients):
        for (features, tokens), slopes in zip(self.kept, gradients):
            for before, token, slope in zip([END, *tokens], tokens, slopes):
                # The derivative of a log-prob by the logits: 1 at the token, less the probabilities.
                by_logits = [-slope * math.exp(it) for it in self.probabilities(features, before)]
                by_logits[token] += slope
                for feature, value in {**features, f"after {before}": 1.0}.items():
                    vector = self.gradients.setdefault(feature, [0.0] * len(self.vocabulary))
                    for place, it in enumerate(by_logits):
                        vector[place] += value * it
        self.kept = []

    def apply(self, step, learning_rate, max_grad_norm):
        if step == 0:
            self.velocity = {}
        norm = math.sqrt(math.fsum(it * it for vector in self.gradients.values() for it in vector))
        factor = 1.0 if max_grad_norm is None else min(1.0, max_grad_norm / (norm + 1e-6))
        for feature in sorted({*self.gradients, *self.velocity}):
            nothing = [0.0] * len(self.vocabulary)
            gradient, before = self.gradients.get(feature, nothing), self.velocity.get(feature, nothing)
            velocity = [self.settings["momentum"] * v + factor * g for v, g in zip(before, gradient)]
            weights = self.weights.get(feature, nothing)
            self.velocity[feature] = velocity
            self.weights[feature] = [w - learning_rate * v for w, v in zip(weights, velocity)]
        self.gradients, self.digest = {}, None
        return norm

    # Checkpoints.

    def save(self, dir, what):
        state = {"vocabulary": self.vocabulary, "weights": self.weights}
        if what == "trainer_state":
            state["velocity"] = self.velocity
        with open(os.path.join(dir, "colour_words.json"), "w", encoding="utf-8") as file:
            json.dump(state, file)

    def load(self, dir, what):
        with open(os.path.join(dir, "colour_words.json"), encoding="utf-8") as file:
            state = json.load(file)
        if state["vocabulary"] != self.vocabulary:
            raise ValueError(f"the checkpoint in {dir} has other words than this policy")
        self.weights, self.velocity = state["weights"], state.get("velocity", {})
        self.digest = None


def drawn(logprobs, sampling, draws):
    """A token by temperature, then top-k, then top-p."""
    if sampling.temperature == 0:
        return max(range(len(logprobs)), key=lambda token: logprobs[token])
    most = max(logprobs)
    weights = {token: math.exp((it - most) / sampling.temperature) for token, it in enumerate(logprobs)}
    best = sorted(weights, key=lambda token: -weights[token])
    best = best[:sampling.top_k or len(best)]
    total, mass, kept = math.fsum(weights[token] for token in best), 0.0, []
    for token in best:
        kept.append(token)
        mass += weights[token] / total
        if mass >= sampling.top_p:
            break
    return draws.choices(kept, [weights[token] for token in kept])[0]
