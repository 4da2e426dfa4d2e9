"""Sampling of answers. Each answer draws its numbers from a stream of its own, named by the request's seed and the
answer's index, and takes one a token, whatever else is in the batch."""

import copy
import hashlib

import torch
from isr_plugin import BadInput, Response


def uniform_numbers(seed: int, index: int, count: int):
    """Numbers in [0, 1) of an answer, float64: the same on every device."""
    digest = hashlib.sha256(f"{seed} {index}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    return torch.rand(count, generator=generator, dtype=torch.float64)


def pick(logits, uniform, sampling):
    """Tokens [rows] of logits [rows, vocabulary] by uniform numbers [rows]: the inverse of the cumulative distribution
    in the order of the vocabulary, after temperature, top-k and top-p; the most probable token at temperature 0."""
    if sampling.temperature <= 0:
        return logits.argmax(-1)
    scaled = logits.double() / sampling.temperature
    if 0 < sampling.top_k < scaled.shape[-1]:
        least = scaled.topk(sampling.top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, float("-inf"))
    if sampling.top_p < 1:
        probs, order = scaled.softmax(-1).sort(dim=-1, descending=True, stable=True)
        surplus = probs.cumsum(-1) - probs >= sampling.top_p
        surplus[:, 0] = False
        scaled = scaled.masked_fill(torch.zeros_like(surplus).scatter(1, order, surplus), float("-inf"))
    cumulative = scaled.softmax(-1).cumsum(-1)
    total = cumulative[:, -1:]
    found = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
    last = (cumulative < total).sum(-1, keepdim=True)  # the last token that has a probability
    return torch.minimum(found, last)[:, 0]


class Answer:
    """An answer that is being sampled."""

    def __init__(self, request, index, longest, reasoning=None):
        self.request, self.index, self.longest, self.reasoning = request, index, longest, reasoning
        self.uniform = uniform_numbers(request.seed, index, longest)
        self.ids, self.logprobs, self.text, self.reason = [], [], "", None
        self.told = [0, 0]  # letters of reasoning and of the answer

    def take(self, token, logprob, prompts):
        """Adds a token; sets the reason where it is the last one."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if token in prompts.stops:
            self.text, self.reason = prompts.text(self.ids[:-1]), "stop"
        else:
            self.text = prompts.text(self.ids)
            if len(self.ids) >= self.longest:
                self.reason = "length"
        stops = self.request.sampling.stop
        found = [self.text.index(stop) for stop in stops if stop and stop in self.text]
        if found:
            self.text, self.reason = self.text[:min(found)], "stop"
        self.tell(stops)

    def tell(self, stops):
        """Tells the text that cannot change any more: neither a character that is cut off nor what may begin a stop."""
        sure = len(self.text)
        if self.reason is None:
            sure = len(self.text.rstrip("\ufffd"))
            for stop in stops:
                begun = [n for n in range(1, len(stop)) if self.text[:sure].endswith(stop[:n])]
                sure -= max(begun, default=0)
        text = self.text[:sure]
        parts = ("", text) if self.reasoning is None else self.reasoning.split_partial(text)
        for n, (part, tell) in enumerate(zip(parts, (self.request.reasoning_progress, self.request.progress))):
            if self.reasoning is not None and n == 1:
                part = part.rstrip()  # which the whole answer may not have
            if len(part) > self.told[n]:
                tell(self.index, part[self.told[n]:])
                self.told[n] = len(part)

    def response(self, text_of):
        response = Response(self.text, self.ids, self.logprobs, self.reason)
        if self.reasoning is None:
            return response
        return self.reasoning.separate(response, lambda count: text_of(self.ids[:count]))


class Decoder:
    """Samples the answers of requests."""

    def __init__(self, engine, prompts, batch):
        self.engine, self.prompts, self.batch = engine, prompts, batch
        self.joins = engine.device.type != "cpu"  # on a CPU each request is decoded alone

    def generate(self, requests):
        """One list of responses a request, or the BadInput of one that cannot be answered."""
        results, group = [None] * len(requests), []
        for number, request in enumerate(requests):
            try:
                rendered = self.prompts.render(request.prompt)
                request.prompt_tokens(rendered.length)
                answers = self.answers(request, rendered)
            except BadInput as error:
                results[number] = error
                continue
            results[number] = answers
            for start in range(0, len(answers), self.batch):
                rows = answers[start:start + self.batch]
                if group and (not self.joins or sum(len(it) for _, it in group) + len(rows) > self.batch):
                    self.decode(group)
                    group = []
                group.append((rendered, rows))
        if group:
            self.decode(group)
        return [it if isinstance(it, BadInput) else self.responses(it) for it in results]

    def responses(self, answers):
        if any(answer.reason is None for answer in answers):
            return BadInput("cancelled")
        return [answer.response(self.prompts.text) for answer in answers]

    def answers(self, request, rendered):
        room = request.sampling.max_new_tokens
        if self.prompts.limit is not None:
            room = min(room, self.prompts.limit - rendered.length)
        reasoning = self.prompts.behind(rendered)
        return [Answer(request, index, room, reasoning) for index in range(request.n)]

    @torch.no_grad()
    def decode(self, group):
        """Samples the answers of a group, `[(prompt, answers)]`, until all have ended."""
        prompts = [self.engine.prefill(rendered) for rendered, _ in group]
        if not can_join(prompts):
            for (_, answers), prompt in zip(group, prompts):
                self.decode_joined([prompt], [answers])
        else:
            self.decode_joined(prompts, [answers for _, answers in group])

    def decode_joined(self, prompts, answers):
        device = self.engine.device
        rows = [row for own in answers for row in own]
        counts = torch.tensor([len(own) for own in answers], device=device)
        logits = torch.stack([it.logits for it in prompts]).repeat_interleave(counts, dim=0)
        state = JoinedCache(prompts, counts)
        for step in range(max(row.longest for row in rows)):
            uniform = torch.stack([row.uniform[step] for row in rows]).to(device)
            tokens = self.tokens(logits, uniform, rows)
            logps = logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0].tolist()
            for row, token, logp in zip(rows, tokens.tolist(), logps):
                row.take(token, logp, self.prompts)
            going = [n for n, row in enumerate(rows) if row.reason is None and not row.request.cancelled()]
            if not going:
                return
            if len(going) < len(rows):
                kept = torch.tensor(going, device=device)
                rows, tokens = [rows[n] for n in going], tokens[kept]
                state.keep(kept)
            out = self.engine.net(input_ids=tokens[:, None], past_key_values=state.cache, use_cache=True,
                                  **state.step())
            logits = out.logits[:, -1].float()

    @staticmethod
    def tokens(logits, uniform, rows):
        """The next token of each row; rows of one request stand together."""
        tokens, start = [], 0
        while start < len(rows):
            end = start
            while end < len(rows) and rows[end].request is rows[start].request:
                end += 1
            tokens.append(pick(logits[start:end], uniform[start:end], rows[start].request.sampling))
            start = end
        return torch.cat(tokens)


def can_join(prompts):
    """Whether keys and values of these prompts can be padded to one length: those of full attention can."""
    return len(prompts) == 1 or all(
        type(layer).__name__ == "DynamicLayer" and layer.get_seq_length() == prompt.length
        for prompt in prompts for layer in prompt.cache.layers)


class JoinedCache:
    """Keys and values of one prompt or several, one row an answer, shorter prompts padded at their beginning."""

    def __init__(self, prompts, counts):
        self.length = max(prompt.length for prompt in prompts)
        self.cache = copy.copy(prompts[0].cache)
        if len(prompts) == 1:
            self.cache.batch_repeat_interleave(int(counts[0]))
            self.padding = self.shift = None
            return
        for number, layer in enumerate(self.cache.layers):
            for name in ("keys", "values"):
                padded = [self.padded(getattr(prompt.cache.layers[number], name)) for prompt in prompts]
                setattr(layer, name, torch.cat(padded).repeat_interleave(counts, dim=0))
        device = counts.device
        self.padding = torch.tensor([self.length - it.length for it in prompts], device=device).repeat_interleave(counts)
        shifts = [it.shift for it in prompts]
        self.shift = None if shifts[0] is None else torch.cat(shifts).to(device)[:, 0].repeat_interleave(counts)

    def padded(self, tensor):
        return torch.nn.functional.pad(tensor, (0, 0, self.length - tensor.shape[-2], 0))

    def keep(self, rows):
        self.cache.batch_select_indices(rows)
        if self.padding is not None:
            self.padding = self.padding[rows]
            self.shift = None if self.shift is None else self.shift[rows]

    def step(self):
        """What the forward pass of the next token needs to know of the padding."""
        self.length += 1
        if self.padding is None:
            return {}
        index = torch.arange(self.length, device=self.padding.device)
        mask = (index >= self.padding[:, None]).long()
        positions = (self.length - 1 - self.padding)[:, None]
        if self.shift is not None:
            positions = (positions + self.shift[:, None]).expand(3, -1, -1)
        return {"attention_mask": mask, "position_ids": positions}
