"""Messages to tokens and pixels by the model's own chat template and processor, and answers to tokens and back."""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import torch
from isr_plugin import BadInput, ReasoningFormat, Video, log

from .vision_cache import CachedProcessor, video_key

ANSWER = "isr answer"
# Markers of reasoning that checkpoints are known to use.
REASONING = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<reasoning>", "</reasoning>"),
             ("\u25c1think\u25b7", "\u25c1/think\u25b7"))
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

    def __init__(self, loaded, cache, reasoning="auto"):
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
        self.reasoning, self.empty = self.reasoning_of(reasoning)
        markers = [] if self.reasoning is None else [self.reasoning.open, self.reasoning.close]
        special = set(self.tokenizer.all_special_tokens) & set(markers)
        self.shown = {self.tokenizer.convert_tokens_to_ids(it): it for it in special}
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
        asked = self.told(("user", "x"), ask=True)
        told = self.told(("user", "x"), ("assistant", ANSWER), ("user", "y"))
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

    def told(self, *turns, ask=False):
        """A conversation as the chat template writes it."""
        content = [{"role": role, "content": [{"type": "text", "text": it}]} for role, it in turns]
        return self.processor.apply_chat_template(content, add_generation_prompt=ask, tokenize=False)

    def reasoning_of(self, chosen):
        """How the model writes reasoning, and the text of an empty one behind the prompt, where the chat template writes one
        before an answer. Markers are those that the prompt opens, else that the template mentions, else that are tokens."""
        asked = self.told(("user", "x"), ask=True)
        template, vocabulary = str(self.processor.chat_template), self.tokenizer.get_vocab()

        def opens(markers):
            return markers[0] in asked and markers[1] not in asked[asked.rindex(markers[0]):]

        if isinstance(chosen, dict):
            found = chosen["open"], chosen["close"]
        else:
            ways = (opens, lambda markers: all(it in template for it in markers),
                    lambda markers: all(it in vocabulary for it in markers))
            found = next((it for way in ways for it in REASONING if way(it)), None)
        if chosen == "off" or found is None:
            return None, ""
        format = ReasoningFormat(*found, opened=opens(found))
        before = self.told(("user", "x"), ("assistant", ANSWER)).rpartition(ANSWER)[0]
        if before.startswith(asked) and format.close in before[len(asked):]:
            return format, before[len(asked):]
        if not format.opened:
            return format, ""
        # As the templates of Qwen3 and GLM-4.5 write an empty one.
        return format, f"\n{format.close}\n\n" if asked.endswith("\n") else f"{format.close}\n"

    def behind(self, rendered):
        """How answers to a prompt write reasoning: a template may open it for some conversations alone."""
        if self.reasoning is None:
            return None
        end = self.shown_text(rendered.inputs["input_ids"][0, -16:].tolist()).rstrip()
        return dataclasses.replace(self.reasoning, opened=end.endswith(self.reasoning.open))

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
                earlier = self.reasoning is not None and message.role == "assistant"
                parts.append({"type": "text", "text": self.reasoning.answer_in(part) if earlier else part})
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
            ids = self.joined(self.reasoned(continuation.text)) + [self.end] * (continuation.kind == "answer")
        if not ids:
            raise BadInput(f"a continuation has no tokens: {continuation.text!r:.80}")
        return ids

    def reasoned(self, text):
        """An answer's text behind the prompt, with the reasoning that it has, or an empty one where the template writes one."""
        split = self.reasoning and dataclasses.replace(self.reasoning, opened=self.reasoning.close in text).split(text)
        if not split:
            return self.empty + text
        if not self.reasoning.opened or split[1] is None:
            return text
        return split[0] + self.empty + split[1]

    def unscored(self, continuation) -> int:
        """The number of a continuation's first tokens that are no part of its score: an opening's empty reasoning."""
        if continuation.kind != "opening" or not self.empty:
            return 0
        whole, before = self.joined(self.reasoned(continuation.text)), self.joined(self.empty)
        alike = next((n for n, (one, other) in enumerate(zip(whole, before)) if one != other), len(before))
        return min(alike, len(whole) - 1)

    def joined(self, text):
        """The tokens of an answer's text behind the prompt, special tokens in it as plain text."""
        before, whole = self.plain(self.tail), self.plain(self.tail + self.lead + text)
        return whole[len(before):] if whole[:len(before)] == before else self.plain(self.lead + text)

    def plain(self, text):
        """The tokens of a text, in which none but markers of reasoning are special."""
        for number, marker in self.shown.items():
            if marker in text:
                before, _, behind = text.partition(marker)
                return [*self.plain(before), number, *self.plain(behind)]
        escaped = {"split_special_tokens": True} if self.tokenizer.is_fast else {}
        return self.tokenizer.encode(text, add_special_tokens=False, **escaped)

    def text(self, ids) -> str:
        """The text of sampled tokens, without special tokens but markers of reasoning."""
        return self.shown_text(ids).removeprefix(self.lead)

    def shown_text(self, ids) -> str:
        parts, start = [], 0
        for at, token in enumerate(ids if self.shown else []):
            if token in self.shown:
                parts += [self.tokenizer.decode(ids[start:at], skip_special_tokens=True), self.shown[token]]
                start = at + 1
        return "".join([*parts, self.tokenizer.decode(ids[start:], skip_special_tokens=True)])


def metadata(video):
    """Times of a video for processors: with one frame a second, the index of a frame is its time in seconds, and what
    is derived from these (timestamps, frames a second) is exact."""
    frames, height, width, _ = video.shape
    duration = video.duration if video.duration > 0 else max(video.timestamps[-1], frames)
    return {"total_num_frames": duration, "fps": 1.0, "frames_indices": list(video.timestamps), "duration": duration,
            "height": height, "width": width}
