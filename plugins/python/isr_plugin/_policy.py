"""Policies and encoders: the models of a run."""

import math
import numbers
from dataclasses import dataclass, field
from typing import Any, Callable, List, Optional, Union

from ._component import Component, caught
from ._reasoning import Reasoning, ReasoningFormat
from ._video import Video, read_video
from ._wire import CONTINUATIONS, FINISH_REASONS, read, write

# Longest fingerprint of weights, in characters.
LONGEST_FINGERPRINT = 200


@dataclass
class Response:
    """An answer of the policy; `logprobs` has one number a token, under the policy that sampled it. `text` is the answer alone;
    tokens and log-probs are also those of `reasoning`, what the model wrote before it, if it did."""
    text: str
    token_ids: List[int]
    logprobs: List[float]
    finish_reason: str
    policy: str = ""
    reasoning: Optional[Reasoning] = None

    def __post_init__(self):
        if isinstance(self.reasoning, dict):
            self.reasoning = read(Reasoning, self.reasoning)


@dataclass
class Message:
    """A turn of a conversation: `role` is system, user or assistant; texts and videos in their order."""
    role: str
    parts: List[Union[str, Video]]


@dataclass
class Sampling:
    """Softmax temperature (0 is greedy), nucleus and top-k truncation (1.0 and 0 are off), the longest answer in tokens
    with its end-of-turn token, and texts that end an answer and are no part of it. Applied in the order temperature,
    top-k, top-p."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 256
    stop: List[str] = field(default_factory=list)


@dataclass
class GenerateRequest:
    """A conversation to continue, by `n` answers that are drawn independently. All draws derive from `seed`."""
    prompt: List[Message]
    sampling: Sampling
    n: int
    seed: int
    _tell: Optional[Callable[[dict], None]] = field(repr=False, compare=False, default=None)
    _is_cancelled: Callable[[], bool] = field(repr=False, compare=False, default=lambda: False)
    _prompt_tokens: Optional[int] = field(repr=False, compare=False, default=None)

    def prompt_tokens(self, count: int):
        """Tells the prompt's length in tokens, those of videos included."""
        self._prompt_tokens = int(count)
        if self._tell is not None:
            self._tell({"prompt_tokens": int(count)})

    def progress(self, answer: int, text: str):
        """Tells the next piece of an answer, where somebody waits for it. The pieces are a prefix of its text."""
        if self._tell is not None and text:
            self._tell({"answer": int(answer), "text": text})

    def reasoning_progress(self, answer: int, text: str):
        """Tells the next piece of an answer's reasoning. The pieces are a prefix of its text."""
        if self._tell is not None and text:
            self._tell({"answer": int(answer), "reasoning": text})

    def cancelled(self) -> bool:
        """Whether nobody waits for the answers any more: whatever is returned is dropped."""
        return self._is_cancelled()


@dataclass
class Continuation:
    """What is scored after a prompt: `"answer"`, the text of a whole turn, with its end-of-turn token; `"opening"`, the
    beginning of one, without it; `"tokens"`, token ids as they are."""
    kind: str
    text: Optional[str] = None
    token_ids: Optional[List[int]] = None


@dataclass
class ScoreRequest:
    """A conversation, and continuations that are each scored on their own after it."""
    prompt: List[Message]
    continuations: List[Continuation]


@dataclass
class Sequence:
    """A continuation to train on, with its prompt."""
    prompt: List[Message]
    continuation: Continuation


@dataclass
class Scored:
    """The tokens of a continuation, and the natural-log probability of each at temperature 1."""
    token_ids: List[int]
    logprobs: List[float]


class Encoder(Component):
    """A frozen vision tower. Override `encode` and `fingerprint`."""
    kind = "encoder"
    device_key = ""  # what else changes the numbers: a device, kernels, the dtype of computation

    def fingerprint(self) -> str:
        """A text of 1 to 200 characters that changes with weights, preprocessing and the chosen layer."""
        raise NotImplementedError

    def encode(self, video: Video):
        """Features of all frames, float32 of shape [frames, tokens, dim]: an array with `shape`, `dtype` and `tobytes`,
        or (shape, dtype, bytes). The same frames give the same features."""
        raise NotImplementedError


class Policy(Component):
    """A model that answers, scores and is trained. Override the methods that raise NotImplementedError."""
    kind = "policy"
    micro_batch = 1  # examples of a training micro-batch, each of one sequence for each view; may be set in `setup`
    reasoning: Optional[ReasoningFormat] = None  # how the model writes reasoning; may be set in `setup`

    def fingerprint(self) -> str:
        """A text of 1 to 200 characters that changes with the weights; cheap, once it was computed."""
        raise NotImplementedError

    def generate(self, request: GenerateRequest) -> List[Response]:
        """`request.n` answers. The same weights, prompt, sampling and seed give the same tokens. `logprobs` are at
        temperature 1 and without truncation, whatever the sampling; `token_ids` include the end-of-turn token where the
        model gave it. `policy` of a response may be left empty. BadInput for a prompt that does not fit the model."""
        raise NotImplementedError

    def generate_batch(self, requests):
        """One list of responses a request; an exception in the list is that request's."""
        return [caught(self.generate, request) for request in requests]

    def score(self, request: ScoreRequest) -> List[Scored]:
        """Log-probs of each continuation, in their order."""
        raise NotImplementedError

    def score_batch(self, requests):
        """One list of scores a request; an exception in the list is that request's."""
        return [caught(self.score, request) for request in requests]

    def forward(self, sequences: List[Sequence], step: int, seed: int) -> List[Scored]:
        """Log-probs of the sequences of a micro-batch, with what `backward` needs. A further call drops what was kept."""
        raise NotImplementedError

    def backward(self, gradients: List[List[float]]) -> None:
        """Adds to the weights' gradients: `gradients` has one list a sequence of the last `forward`, with the loss's
        derivative by each log-prob."""
        raise NotImplementedError

    def apply(self, step: int, learning_rate: float, max_grad_norm: Optional[float]) -> float:
        """Takes the optimiser's step by the gradients that have added up, and clears them; returns their global L2 norm
        before they are clipped to `max_grad_norm` (None: not clipped). Step 0 resets the optimiser's state."""
        raise NotImplementedError

    def zero(self) -> None:
        """Drops gradients that have added up; called before the first `forward` of a step."""
        raise NotImplementedError

    def save(self, dir: str, what: str) -> None:
        """Writes a checkpoint into an empty folder: `what` is `"model"`, or `"trainer_state"` with the optimiser's
        state, after which training goes on as if it had not been interrupted."""
        raise NotImplementedError

    def load(self, dir: str, what: str) -> None:
        """Loads what `save` wrote. A folder that cannot be loaded raises and changes nothing."""
        raise NotImplementedError


def read_prompt(folder, turns):
    """The messages of a prompt, whose videos lie in `folder`."""
    def part(it):
        return read_video(folder, it["video"]) if "video" in it else it["text"]

    return [Message(turn["role"], [part(it) for it in turn["parts"]]) for turn in turns]


def read_continuation(params):
    kind = next(kind for kind in CONTINUATIONS if kind in params)
    content = params[kind]
    return Continuation(kind, token_ids=content) if kind == "tokens" else Continuation(kind, text=content)


def read_generate(folder, call, is_cancelled):
    """The request of a call; its progress goes to isr where that asks for it."""
    params = call["params"]

    def tell(progress):
        write({"type": "progress", "id": call["id"], **progress})

    prompt, sampling = read_prompt(folder, params["prompt"]), read(Sampling, params["sampling"])
    return GenerateRequest(prompt, sampling, params["n"], params["seed"], tell if params.get("stream") else None,
                           is_cancelled)


def read_score(folder, params):
    continuations = [read_continuation(it) for it in params["continuations"]]
    return ScoreRequest(read_prompt(folder, params["prompt"]), continuations)


def read_sequences(folder, params):
    return [Sequence(read_prompt(folder, it["prompt"]), read_continuation(it["continuation"]))
            for it in params["sequences"]]


def told_fingerprint(component):
    """A component's fingerprint; a ValueError where it is none."""
    text = component.fingerprint()
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST_FINGERPRINT:
        raise ValueError(f"fingerprint returned {text!r:.80} ({type(text).__name__}), not a text of 1 to "
                         f"{LONGEST_FINGERPRINT} characters")
    return text


def responses_message(method, request, responses, component):
    """The reply to a `generate`."""
    if not isinstance(responses, (list, tuple)) or not all(isinstance(it, Response) for it in responses):
        raise ValueError(f"{method} returned {responses!r:.80} ({type(responses).__name__}), not a list of Response")
    own, told = told_fingerprint(component), []
    for it in responses:
        if not isinstance(it.text, str) or it.finish_reason not in FINISH_REASONS:
            raise ValueError(f"{method} returned the text {it.text!r:.80} with the finish_reason {it.finish_reason!r:.80}, "
                             f"not a str and one of {', '.join(FINISH_REASONS)}")
        if not it.text.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in it.text):
            raise ValueError(f"{method} returned a text that is no Unicode: {it.text!r:.80}")
        token_ids, logprobs = _tokens(method, it)
        answer = {"text": it.text, "token_ids": token_ids, "logprobs": logprobs, "finish_reason": it.finish_reason}
        if it.reasoning is not None:
            answer["reasoning"] = {"text": it.reasoning.text, "tokens": int(it.reasoning.tokens)}
        told.append(answer)
    policy = next((it.policy for it in responses if it.policy), own)
    return {"policy": policy, "prompt_tokens": request._prompt_tokens, "responses": told}


def scores_message(method, scores):
    """Scores of continuations or of sequences."""
    if not isinstance(scores, (list, tuple)) or not all(isinstance(it, Scored) for it in scores):
        raise ValueError(f"{method} returned {scores!r:.80} ({type(scores).__name__}), not a list of Scored")
    each = [_tokens(method, it) for it in scores]
    return [{"token_ids": token_ids, "logprobs": logprobs} for token_ids, logprobs in each]


def _tokens(method, it):
    """Token ids and log-probs as lists of numbers, one a token."""
    token_ids, logprobs = _listed(it.token_ids), _listed(it.logprobs)
    for token in token_ids:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < 1 << 32:
            raise ValueError(f"{method} returned the token id {token!r:.80} ({type(token).__name__})")
    for number in logprobs:
        if not isinstance(number, numbers.Real) or not math.isfinite(number):
            raise ValueError(f"{method} returned the log-prob {number!r:.80}")
    if len(token_ids) != len(logprobs):
        raise ValueError(f"{method} returned {len(logprobs)} log-probs for {len(token_ids)} tokens")
    return token_ids, [float(number) for number in logprobs]


def _listed(values: Any) -> list:
    """A list of plain numbers, from a list or an array of any library."""
    values = values.tolist() if hasattr(values, "tolist") else list(values)
    return [value.tolist() if hasattr(value, "tolist") else value for value in values]


def norm_message(value):
    """A norm as a number, or by name where JSON has none: training goes on after one that is not finite."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"apply returned {value!r:.80} ({type(value).__name__}), not the norm of the gradients")
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"
