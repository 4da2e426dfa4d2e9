"""Components for isr-dpo, written in Python (3.9 or later, standard library only): judges, retrospectors, objectives,
evaluators, observers, datasets of samples, preferences and demonstrations, policies and encoders.

A file with this in it is a plugin:

    from isr_plugin import Judge

    class Brevity(Judge):
        "Prefers the shorter answer."

        def judge(self, case):
            return 1.0 if len(case.first.text) < len(case.second.text) else 0.0

A config names it with `plugins = ["brevity.py"]` and `judge.type = "brevity"`. isr runs the file with
`python -m isr_plugin`, which finds the classes in it and serves them by the protocol of `docs/plugin-protocol.md`.
"""

import base64
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from ._component import BadInput, Component, caught
from ._policy import (Continuation, Encoder, GenerateRequest, Message, Policy, Response, Sampling, Scored, ScoreRequest,
                      Sequence)
from ._reasoning import Reasoning, ReasoningFormat
from ._video import Features, Video
from ._wire import read, write

__all__ = ["Assessment", "BadInput", "Context", "Continuation", "Data", "Demonstration", "Demonstrations", "Encoder",
           "Evaluator", "Features", "GenerateRequest", "Judge", "JudgeCase", "Message", "Objective", "Observer",
           "Policy", "Preference", "Preferences", "Reasoning", "ReasoningFormat", "Response", "RetrospectionCase",
           "Retrospector", "Sample", "Sampling",
           "Scene", "ScoreRequest", "Scored", "Sequence", "Video", "View", "Vote", "log", "serve"]
__version__ = "0.1.0"


@dataclass
class Scene:
    """A video: its name in journals, size in pixels, and the time of each frame in seconds."""
    video: str
    width: int
    height: int
    timestamps: List[float]
    _ask: Any = field(repr=False, compare=False, default=None)

    def frame(self, index: int) -> bytes:
        """Frame `index`: RGB bytes of shape [height, width, 3]."""
        text = self._ask("frame", {"index": index})
        if text is None:
            raise IndexError(f"frame {index} of {len(self.timestamps)}")
        return base64.b64decode(text)


@dataclass
class Context:
    """What a retrospector wrote about a video in an iteration."""
    text: str
    iteration: int
    video: str = ""
    parent: Optional[int] = None
    parent_of: Optional[str] = None


class _Case:
    """What all cases can ask of the policy."""
    scene: Scene
    seed: int

    def generate(self, prompt, n=1, seed=None, video=True, **sampling) -> List[Response]:
        """`n` answers of the policy. `prompt` is a user's text about the video (without it where `video` is
        false), or a list of `{"role": ..., "parts": [{"text": ...}, {"video": True}]}`. `sampling` takes
        temperature, top_p, top_k, max_new_tokens, stop. Draws depend on `seed` alone, by default the case's."""
        params = {"prompt": _prompt(prompt, video), "sampling": sampling, "n": n}
        params["seed"] = self.seed if seed is None else seed
        return [read(Response, answer) for answer in self.scene._ask("generate", params)]

    def score(self, prompt, answers, video=True) -> List[List[float]]:
        """Log-probs of the tokens of each answer after the prompt. An answer is a text, or
        `{"opening": text}` for the beginning of one, or `{"tokens": [...]}`."""
        answers = [{"answer": it} if isinstance(it, str) else it for it in answers]
        params = {"prompt": _prompt(prompt, video), "continuations": answers}
        return [scored["logprobs"] for scored in self.scene._ask("score", params)]


def _prompt(prompt, video):
    if not isinstance(prompt, str):
        return prompt
    return [{"role": "user", "parts": [{"video": True}] * bool(video) + [{"text": prompt}]}]


@dataclass
class JudgeCase(_Case):
    """Which of two answers to the instruction is better?"""
    scene: Scene
    instruction: str
    context: Optional[Context]
    first: Response
    second: Response
    seed: int


@dataclass
class RetrospectionCase(_Case):
    """A video to describe, with its previous description where there is one."""
    scene: Scene
    previous: Optional[Context]
    seed: int


@dataclass
class Vote:
    """One look at the two answers: the probability that `first` is better, and whether it was shown first."""
    first_shown_first: bool
    p_first: float


@dataclass
class View:
    """Log-probs of one answer of each pair of a batch. `policy` and `reference` have one number a pair where
    the objective is summed, else the tokens of pair 0, then of pair 1, ...; `lengths` says how many each."""
    view: str
    policy: List[float]
    reference: List[float]
    lengths: List[int]


@dataclass
class Sample:
    """A video with an instruction; in held-out and audit samples, with the reference answer and whatever else is known
    about it. A relative path is looked for beside the plugin's file, then in the working directory."""
    id: str
    video: str
    instruction: str
    reference: Optional[str] = None
    facts: Any = None


@dataclass
class Assessment:
    """What an evaluator says about a text: `quality`, larger is better, and metrics, which are averaged over samples."""
    quality: float
    metrics: Dict[str, float] = field(default_factory=dict)


@dataclass
class Preference:
    """A pair of answers of which one is better. `turns` are earlier ones, `{"role": ..., "text": ...}`; `p_chosen` is
    the probability that `chosen` is better; `origin` says where the row stands. A relative path is looked for as that
    of a sample."""
    prompt: str
    chosen: str
    rejected: str
    video: Optional[str] = None
    turns: List[Dict[str, str]] = field(default_factory=list)
    p_chosen: Optional[float] = None
    id: Optional[str] = None
    origin: Optional[str] = None


@dataclass
class Demonstration:
    """A prompt with the answer to be learnt; fields as those of `Preference`."""
    prompt: str
    answer: str
    video: Optional[str] = None
    turns: List[Dict[str, str]] = field(default_factory=list)
    id: Optional[str] = None


class Judge(Component):
    """Override `judge`, or `judge_batch` for a model that takes several cases at once."""
    kind = "judge"

    def judge(self, case: JudgeCase):
        """The probability that `case.first` is better; or a list of `Vote`, one for each order of showing."""
        raise NotImplementedError

    def judge_batch(self, cases):
        """One answer a case; an exception in the list is that case's."""
        return [caught(self.judge, case) for case in cases]


class Retrospector(Component):
    """Override `describe`."""
    kind = "retrospector"

    def describe(self, case: RetrospectionCase) -> str:
        """A description of the video, not empty."""
        raise NotImplementedError


class Objective(Component):
    """Override `evaluate`, and say what it needs."""
    kind = "objective"
    views = ("chosen", "rejected")  # or also "chosen_corrupted", "mismatched"
    granularity = "summed"  # or "per_token"
    reference = True
    across_batch = False  # True: the loss compares the pairs of a batch, so it is given all of them at once

    def evaluate(self, *views: View):
        """`(loss, gradients, metrics)`: the mean over pairs, its derivative by each number of each view's
        `policy`, and figures for the log. Pure: the same views give the same value."""
        raise NotImplementedError


class Evaluator(Component):
    """Override `answer`, or `answer_batch` for a model that takes several at once."""
    kind = "evaluator"
    costly = False  # True where it asks a server or a model: judges are then not compared with it

    def answer(self, sample: Sample, text: str) -> Optional[Assessment]:
        """Evaluates an answer to the sample's instruction; None where the sample does not say enough. The same sample
        and text give the same assessment."""
        raise NotImplementedError

    def answer_batch(self, answers):
        """One assessment for each `(sample, text)`; an exception in the list is that one's."""
        return [caught(lambda both: self.answer(*both), both) for both in answers]

    def context(self, sample: Sample, text: str) -> Optional[Assessment]:
        """Evaluates a description of the sample's video."""
        return None


class Observer(Component):
    """Override `observe`."""
    kind = "observer"

    def observe(self, event: Dict[str, Any]):
        """Handles an event, a dict with its name as `event` and its `time`. Events come one at a time, in order. An
        observer that raises gets no more of them; the run goes on."""
        raise NotImplementedError

    def flush(self):
        """Called when a run ends, for whatever reason: the process is ended soon after."""


class Data(Component):
    """Override `training` and `evaluation`. Each yields the same samples in the same order whenever it is called, with
    ids of their own; both share no video."""
    kind = "data"

    def training(self):
        """Yields a `Sample` for each training sample; a reference answer does not reach the training."""
        raise NotImplementedError

    def evaluation(self):
        """Yields a `Sample` with `reference` for each held-out sample."""
        return []

    def audit(self):
        """Yields training samples whose `reference` is known, by which judges are measured."""
        return []


class Preferences(Component):
    """Override `rows`, which yields the same rows in the same order whenever it is called."""
    kind = "preferences"

    def rows(self):
        """Yields a `Preference` for each row, or a `BadInput` for one that cannot be used: it is quarantined."""
        raise NotImplementedError


class Demonstrations(Component):
    """Override `rows`, which yields the same rows in the same order whenever it is called."""
    kind = "demonstrations"

    def rows(self):
        """Yields a `Demonstration` for each row, or a `BadInput` for one that cannot be used: it is quarantined."""
        raise NotImplementedError


def log(message, level="info"):
    """Writes a line to the run's log; level is error, warn, info or debug."""
    write({"type": "log", "level": level, "message": str(message)})


def serve(*classes):
    """Serves components until isr closes the pipe. `python -m isr_plugin FILE` does it for all classes of a
    file that does not call it, `python -m isr_plugin --module NAME` for those of an installed module."""
    from ._server import Server

    Server(classes).run()
