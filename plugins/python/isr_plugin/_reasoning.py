"""Reasoning that models write before their answers, as isr tells it apart (`core/api/src/reasoning.rs`)."""

import dataclasses
from dataclasses import dataclass
from typing import Optional, Tuple


@dataclass
class Reasoning:
    """What a model wrote before an answer: text without markers, and the number of the response's tokens before the answer,
    markers included (all of them, where the response ends within its reasoning)."""
    text: str
    tokens: int


@dataclass
class ReasoningFormat:
    """Markers of reasoning, and whether prompts end with the opening one, so that responses begin within it."""
    open: str = "<think>"
    close: str = "</think>"
    opened: bool = False

    def split(self, text: str) -> Optional[Tuple[str, Optional[str]]]:
        """Reasoning and answer of a whole text, whose answer is None where it ends within its reasoning; None where it has
        no reasoning."""
        inside = self._inside(text)
        if inside is None:
            return None
        reasoning, closed, answer = inside.partition(self.close)
        return reasoning.strip(), answer.strip() if closed else None

    def split_partial(self, text: str) -> Tuple[str, str]:
        """Reasoning and answer of the beginning of a text, as far as both are sure."""
        start = text.lstrip()
        if len(start) < len(self.open) and self.open.startswith(start):
            return "", ""
        inside = self._inside(text)
        if inside is None:
            return "", text
        reasoning, closed, answer = inside.partition(self.close)
        if not closed:
            held = [n for n in range(1, len(self.close)) if inside.endswith(self.close[:n])]
            return inside[:len(inside) - max(held, default=0)].strip(), ""
        return reasoning.strip(), answer.lstrip()

    def answer_in(self, turn: str) -> str:
        """The answer of an earlier turn, behind its last closing marker; chat templates leave reasoning out."""
        before, closed, answer = turn.rpartition(self.close)
        if closed:
            return answer.lstrip()
        return "" if turn.lstrip().startswith(self.open) else turn

    def separate(self, response, text_of):
        """A response without its reasoning in the text; `text_of(n)` is the text of its first n tokens, with markers."""
        split = self.split(response.text)
        if split is None:
            return response
        tokens = len(response.token_ids)
        if split[1] is not None:
            before = 0
            while before + 1 < tokens:
                middle = (before + tokens) // 2
                closed = self.split(text_of(middle))
                if closed is not None and closed[1] is not None:
                    tokens = middle
                else:
                    before = middle
        return dataclasses.replace(response, text=split[1] or "", reasoning=Reasoning(split[0], tokens))

    def _inside(self, text):
        start = text.lstrip()
        if start.startswith(self.open):
            return start[len(self.open):]
        return text if self.opened else None
