"""Messages to tokens and pixels by the model's own chat template and processor, and answers to tokens and back."""

import copy
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import torch
from isr_plugin import BadInput, Video, log

from .vision_cache import CachedProcessor, video_key

ANSWER = "isr answer"
VISION_PROCESSORS = ("video_processor", "image_processor")


@dataclass
class Rendered:
    """A prompt as the model's inputs, one row on the host; `videos` names what its features depend on."""
    inputs: Dict[str, Any]
    videos: Optional[Tuple]

    @property
    def length(self) -> int:
        """Tokens, those of videos included."""
        return self.inputs["input_ids"].shape[1]


class Prompts:
    """Renders prompts and answers of a model."""

    def __init__(self, loaded, cache):
        self.processor = copy.copy(loaded.processor)
        self.tokenizer = getattr(self.processor, "tokenizer", None)
        if self.tokenizer is None or not getattr(self.processor, "chat_template", None):
            raise ValueError(f"{loaded.source} has no tokenizer or no chat template; a policy needs both")
        self.cached = []
        for name in VISION_PROCESSORS:
            if (inner := getattr(self.processor, name, None)) is not None:
                self.cached.append(CachedProcessor(inner, cache))
                setattr(self.processor, name, self.cached[-1])
        self.takes_videos = getattr(self.processor, "video_processor", None) is not None
        self.limit = getattr(loaded.net.config.get_text_config(), "max_position_embeddings", None)
        self.vocabulary = loaded.net.get_input_embeddings().weight.shape[0]
        self.escapes = self.can_escape()
        self.stops = self.stop_ids(loaded.net.generation_config)
        self.lead, self.tail, self.end = self.turn()

    def can_escape(self):
        """Whether the tokenizer can read special tokens in a user's text as plain text."""
        try:
            self.tokenized([{"role": "user", "content": [{"type": "text", "text": "x"}]}], [], True)
        except NotImplementedError as error:
            log(f"special tokens in a user's text are read as such: {error}", "warn")
            return False
        return True

    def stop_ids(self, generation):
        ids = generation.eos_token_id
        ids = [ids] if isinstance(ids, int) else list(ids or [])
        if self.tokenizer.eos_token_id is not None:
            ids.append(self.tokenizer.eos_token_id)
        return set(ids)

    def turn(self):
        """What the chat template writes before an answer, the text that an answer's first token is joined with, and the
        token that ends a turn."""
        def text(*turns, ask=False):
            content = [{"role": role, "content": [{"type": "text", "text": it}]} for role, it in turns]
            return self.processor.apply_chat_template(content, add_generation_prompt=ask, tokenize=False)

        asked = text(("user", "x"), ask=True)
        told = text(("user", "x"), ("assistant", ANSWER), ("user", "y"))
        before, _, behind = told.rpartition(ANSWER)
        lead = before[len(asked):] if before.startswith(asked) and not before[len(asked):].strip() else ""
        added = {token.content: number for number, token in self.tokenizer.added_tokens_decoder.items()}
        found = [(behind.index(token), -len(token), number) for token, number in added.items()
                 if token in behind and number in self.stops]
        end = min(found)[2] if found else self.tokenizer.eos_token_id
        if end is None:
            raise ValueError("the chat template ends no turn, and the tokenizer has no eos_token")
        self.stops.add(end)
        cut = max((asked.rindex(token) + len(token) for token in added if token in asked), default=0)
        return lead, asked[cut:], end

    def render(self, messages) -> Rendered:
        """A prompt that an answer follows. BadInput where the model cannot take it."""
        videos = [part for message in messages for part in message.parts if isinstance(part, Video)]
        conversation = [{"role": message.role, "content": self.content(message)} for message in messages]
        subject = tuple(video_key(video) for video in videos) or None
        for processor in self.cached:
            processor.subject = subject
        try:
            inputs = self.tokenized(conversation, videos, self.escapes)
        except (ValueError, IndexError, TypeError, ZeroDivisionError) as error:
            names = ", ".join(video.video for video in videos) or "no video"
            raise BadInput(f"the prompt (with {names}) cannot be processed: {error}") from error
        finally:
            for processor in self.cached:
                processor.subject = None
        rendered = Rendered(dict(inputs), subject)
        if self.limit is not None and rendered.length >= self.limit:
            raise BadInput(f"the prompt has {rendered.length} tokens, and the model's context {self.limit}")
        return rendered

    def content(self, message):
        parts = []
        for part in message.parts:
            if isinstance(part, str):
                parts.append({"type": "text", "text": part})
                continue
            frames = torch.tensor(part.pixels()).permute(0, 3, 1, 2)
            if self.takes_videos:
                parts.append({"type": "video", "video": frames})
            else:
                parts += [{"type": "image", "image": frame} for frame in frames]
        return parts

    def tokenized(self, conversation, videos, escapes):
        settings = {}
        if videos and self.takes_videos:
            settings.update(do_sample_frames=False, video_metadata=[metadata(video) for video in videos])
        return self.processor.apply_chat_template(
            [conversation], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
            sanitize_control_tokens=escapes, processor_kwargs=settings)

    def answer_ids(self, continuation) -> List[int]:
        """The tokens of a continuation; BadInput where it has none, or unknown ones."""
        if continuation.kind == "tokens":
            ids = list(continuation.token_ids)
            if not all(0 <= token < self.vocabulary for token in ids):
                raise BadInput(f"a token is not in the vocabulary of {self.vocabulary}: {max(ids)}")
        else:
            ids = self.joined(continuation.text) + [self.end] * (continuation.kind == "answer")
        if not ids:
            raise BadInput(f"a continuation has no tokens: {continuation.text!r:.80}")
        return ids

    def joined(self, text):
        """The tokens of an answer's text behind the prompt, special tokens in it as plain text."""
        before, whole = self.plain(self.tail), self.plain(self.tail + self.lead + text)
        return whole[len(before):] if whole[:len(before)] == before else self.plain(self.lead + text)

    def plain(self, text):
        escaped = {"split_special_tokens": True} if self.tokenizer.is_fast else {}
        return self.tokenizer.encode(text, add_special_tokens=False, **escaped)

    def text(self, ids) -> str:
        """The text of sampled tokens, without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).removeprefix(self.lead)


def metadata(video):
    """Times of a video for processors: with one frame a second, the index of a frame is its time in seconds, and what
    is derived from these (timestamps, frames a second) is exact."""
    frames, height, width, _ = video.shape
    duration = video.duration if video.duration > 0 else max(video.timestamps[-1], frames)
    return {"total_num_frames": duration, "fps": 1.0, "frames_indices": list(video.timestamps), "duration": duration,
            "height": height, "width": width}
