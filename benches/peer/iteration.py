"""One ISR-DPO iteration in the ordinary way, with transformers and TRL; prints seconds by stage as JSON.

    python benches/peer/iteration.py FOLDER --how batched|expert

`batched`: prompts in batches of four (`generate` by `bench --batch`) through the model, videos encoded wherever they
are needed, the reference's log-probs computed, logits at every position, as trainers do by default.
`expert`: each video encoded once, static KV cache, answers of one prompt side by side, logits where they are
needed, pairs one by one on attention's causal path.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import LlavaForConditionalGeneration

from shape import IMAGE, load, question, vocabulary

try:
    from trl.trainer.utils import selective_log_softmax
except ImportError:  # What it computes in 16-bit types, row by row; other machines have no TRL.
    def selective_log_softmax(logits, index):
        rows = [F.log_softmax(row, -1).gather(-1, at.unsqueeze(-1)).squeeze(-1) for row, at in zip(logits, index)]
        return torch.stack(rows)

BATCH = 4
BETA = 0.1
PATCHES = 256


class Iteration:
    def __init__(self, folder: Path):
        self.size, self.settings = load(folder)
        dtype = getattr(torch, self.settings["precision"])
        self.model = LlavaForConditionalGeneration.from_pretrained(
            folder / "model", dtype=dtype, attn_implementation="sdpa"
        ).to(self.settings["device"])
        self.device = self.model.device
        self.words = vocabulary(self.size)
        self.samples, self.frames = self.settings["samples"], self.settings["frames"]
        generator = torch.Generator().manual_seed(1)
        shape = (self.samples, self.frames, 3, 224, 224)
        self.pixels = torch.randn(shape, generator=generator).to(self.device, dtype)
        self.batch = self.settings.get("batch") or BATCH
        self.seconds = {}
        # Towers and projector are frozen, as in the paper's parent.
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("language_model" in name or "lm_head" in name)
        if self.settings.get("lora"):
            adapt(self.model, self.settings["lora"])
        if self.settings.get("checkpointing"):
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-6, weight_decay=0.0)

    def stage(self, name, work):
        self.wait()
        start = time.perf_counter()
        result = work()
        self.wait()
        self.seconds[name] = time.perf_counter() - start
        return result

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def ids(self, text: str):
        return [self.words.get(word, 0) for word in text.split()]

    def prompt(self, ids):
        visual = [IMAGE] * (self.frames * PATCHES)
        return [self.words["USER:"], *visual, *ids, self.words["ASSISTANT:"]]

    def questions(self):
        return [self.prompt(self.ids(question(sample, self.size))) for sample in range(self.samples)]

    def descriptions(self):
        return [self.prompt(self.ids("describe")) for _ in range(self.samples)]

    def judgements(self, contexts, responses):
        prompts, at = [], []
        for sample in range(self.samples):
            for first, second in ((0, 1), (1, 0)):
                ids = self.ids("context") + contexts[sample] + self.ids("question")
                ids += self.ids(question(sample, self.size)) + self.ids("A") + responses[sample][first]
                ids += self.ids("B") + responses[sample][second] + self.ids("which is better")
                prompts.append(self.prompt(ids))
                at.append(sample)
        return prompts, at

    def tensor(self, rows):
        return torch.tensor(rows, device=self.device)

    def loss(self, policy, reference):
        """DPO's sigmoid loss of `[chosen, rejected]` sums."""
        margin = (policy[0] - reference[0]) - (policy[1] - reference[1])
        return -F.logsigmoid(BETA * margin).mean()

    def pairs(self, responses, better):
        return [(r[0], r[1]) if b else (r[1], r[0]) for r, b in zip(responses, better)]

    def update(self):
        torch.nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def verdicts(self, logits):
        """Whether the first response is preferred, from the last position's logits of both orders."""
        a, b = self.words["A"], self.words["B"]
        p = torch.softmax(logits[:, [a, b]].float(), -1)[:, 0].view(-1, 2)
        return ((p[:, 0] + 1 - p[:, 1]) / 2 > 0.5).tolist()


class Adapted(torch.nn.Module):
    """A linear layer with a low-rank adapter, as PEFT computes it."""

    def __init__(self, base, rank: int):
        super().__init__()
        self.base = base
        options = {"device": base.weight.device, "dtype": torch.float32}
        self.a = torch.nn.Parameter(torch.randn(rank, base.in_features, **options) / base.in_features**0.5)
        self.b = torch.nn.Parameter(torch.zeros(base.out_features, rank, **options))

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x.to(self.a.dtype), self.a), self.b).to(x.dtype)


def adapt(model, rank: int) -> None:
    """Freezes a model and puts adapters on the queries' and values' projections of its decoder."""
    model.requires_grad_(False)
    for layer in model.model.language_model.layers:
        for name in ("q_proj", "v_proj"):
            setattr(layer.self_attn, name, Adapted(getattr(layer.self_attn, name), rank))


class Batched(Iteration):
    def pixels_of(self, samples):
        return self.pixels[samples].flatten(0, 1)

    @torch.no_grad()
    def generate(self, prompts, samples, length):
        answers = []
        for start in range(0, len(prompts), self.batch):
            rows = self.tensor(prompts[start : start + self.batch])
            out = self.model.generate(
                input_ids=rows, attention_mask=torch.ones_like(rows),
                pixel_values=self.pixels_of(samples[start : start + self.batch]),
                do_sample=True, temperature=1.0, top_k=0, max_new_tokens=length, min_new_tokens=length,
            )
            answers += out[:, rows.shape[1] :].tolist()
        return answers

    @torch.no_grad()
    def judge(self, prompts, samples):
        logits = []
        for start in range(0, len(prompts), BATCH):
            rows = self.tensor(prompts[start : start + BATCH])
            pixels = self.pixels_of(samples[start : start + BATCH])
            out = self.model(input_ids=rows, attention_mask=torch.ones_like(rows), pixel_values=pixels, logits_to_keep=1)
            logits.append(out.logits[:, -1])
        return self.verdicts(torch.cat(logits))

    def log_probs(self, pairs, samples):
        """Sums `[2, pairs]`: chosen and rejected in one batch, logits everywhere."""
        prompts = [self.questions()[sample] for sample in samples]
        rows = [p + pair[0] for p, pair in zip(prompts, pairs)] + [p + pair[1] for p, pair in zip(prompts, pairs)]
        rows = self.tensor(rows)
        pixels = self.pixels_of(samples + samples)
        out = self.model(input_ids=rows, attention_mask=torch.ones_like(rows), pixel_values=pixels, use_cache=False)
        logps = selective_log_softmax(out.logits[:, :-1], rows[:, 1:])
        return logps[:, -self.size.answer :].sum(-1).view(2, -1)

    def run(self):
        every = list(range(self.samples))
        twice = [sample for sample in every for _ in range(2)]
        prompts = self.questions()
        flat = self.stage("respond", lambda: self.generate([prompts[s] for s in twice], twice, self.size.answer))
        responses = [flat[2 * s : 2 * s + 2] for s in every]
        contexts = self.stage("retrospect", lambda: self.generate(self.descriptions(), every, self.size.context))
        better = self.stage("judge", lambda: self.judge(*self.judgements(contexts, responses)))
        pairs = self.pairs(responses, better)
        batches = [every[start : start + BATCH] for start in range(0, self.samples, BATCH)]
        with torch.no_grad():
            chosen = lambda batch: [pairs[s] for s in batch]
            reference = self.stage("reference", lambda: [self.log_probs(chosen(b), b) for b in batches])

        def train():
            self.model.train()
            for batch, known in zip(batches, reference):
                loss = self.loss(self.log_probs(chosen(batch), batch), known)
                (loss * len(batch) / self.samples).backward()
            self.update()

        self.stage("train", train)


class Expert(Iteration):
    @torch.no_grad()
    def encode(self):
        features = []
        for sample in range(self.samples):
            found = self.model.model.get_image_features(
                pixel_values=self.pixels[sample], vision_feature_layer=-2, vision_feature_select_strategy="default"
            )
            found = getattr(found, "pooler_output", found)
            features.append(torch.cat(list(found)) if isinstance(found, (list, tuple)) else found.flatten(0, 1))
        return features

    def embed(self, rows, sample):
        ids = self.tensor(rows)
        embedded = self.model.get_input_embeddings()(ids)
        mask = (ids == IMAGE).unsqueeze(-1).expand_as(embedded)
        return embedded.masked_scatter(mask, self.features[sample].repeat(len(rows), 1).to(embedded.dtype))

    @torch.no_grad()
    def generate(self, prompts, n, length):
        answers = []
        for sample, prompt in enumerate(prompts):
            out = self.model.generate(
                input_ids=self.tensor([prompt] * n), inputs_embeds=self.embed([prompt] * n, sample),
                do_sample=True, temperature=1.0, top_k=0, max_new_tokens=length, min_new_tokens=length,
                cache_implementation="static", disable_compile=True,
            )
            answers.append(out[:, -length:].tolist())
        return answers

    @torch.no_grad()
    def judge(self, prompts, samples):
        logits = []
        for prompt, sample in zip(prompts, samples):
            out = self.model(inputs_embeds=self.embed([prompt], sample), use_cache=False, logits_to_keep=1)
            logits.append(out.logits[:, -1])
        return self.verdicts(torch.cat(logits))

    def log_probs(self, pair, sample):
        prompt, sums = self.questions()[sample], []
        for answer in pair:
            row = prompt + answer
            out = self.model(
                inputs_embeds=self.embed([row], sample), use_cache=False, logits_to_keep=len(answer) + 1
            )
            sums.append(selective_log_softmax(out.logits[:, :-1], self.tensor([answer])).sum())
        return torch.stack(sums)

    def run(self):
        every = range(self.samples)
        self.features = self.stage("encode", self.encode)
        responses = self.stage("respond", lambda: self.generate(self.questions(), 2, self.size.answer))
        contexts = self.stage("retrospect", lambda: self.generate(self.descriptions(), 1, self.size.context))
        contexts = [context[0] for context in contexts]
        better = self.stage("judge", lambda: self.judge(*self.judgements(contexts, responses)))
        pairs = self.pairs(responses, better)
        with torch.no_grad():
            reference = self.stage("reference", lambda: [self.log_probs(pairs[s], s) for s in every])

        def train():
            self.model.train()
            for sample in every:
                loss = self.loss(self.log_probs(pairs[sample], sample), reference[sample])
                (loss / self.samples).backward()
            self.update()

        self.stage("train", train)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--how", choices=["batched", "expert"], default="batched")
    args = parser.parse_args()
    torch.manual_seed(1)
    iteration = {"batched": Batched, "expert": Expert}[args.how](args.folder)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    iteration.run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result = {"how": args.how, "seconds": iteration.seconds, "peak_mib": peak, "loaded_mib": loaded}
    if iteration.device.type == "cuda":
        result["peak_device_mib"] = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps(result))


if __name__ == "__main__":
    main()
