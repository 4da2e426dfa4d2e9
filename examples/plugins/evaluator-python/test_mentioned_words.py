"""Tests of the evaluator: `python -m pytest`, with the package isr_plugin on the path."""

from isr_plugin import Sample
from mentioned_words import MentionedWords


def test_words_are_counted():
    sample = Sample("a", "a.mp4", "what colour is the bar?", "The bar is red.")
    assessment = MentionedWords().answer(sample, "a red ball")
    assert assessment.metrics == {"mentioned": 0.5, "added": 1}
    assert MentionedWords().answer(sample, "red bar").quality == 1.0
