"""An evaluator without a model: which words of the reference answer a text mentions, and how many it adds."""

import re

from isr_plugin import Assessment, BadInput, Evaluator


class MentionedWords(Evaluator):
    """Counts the words that an answer shares with the reference answer: `mentioned` is the share of the reference's
    words that it has, `added` the number of its words that the reference lacks."""

    version = "0.1.0"
    defaults = {"ignored": ["a", "an", "and", "in", "is", "of", "on", "the", "to"]}

    def setup(self):
        self.ignored = {str(word).lower() for word in self.settings["ignored"]}

    def answer(self, sample, text):
        return self.compared(sample, text)

    def context(self, sample, text):
        """A description of the video is measured by the same words."""
        return self.compared(sample, text)

    def compared(self, sample, text):
        wanted, said = self.words(sample.reference), self.words(text)
        if not wanted:
            raise BadInput(f"the reference answer of {sample.id} has no word that counts: {sample.reference!r}")
        mentioned, added = len(wanted & said) / len(wanted), len(said - wanted)
        # Of two answers with the same words, that with fewer others is better.
        quality = mentioned - 0.01 * added
        return Assessment(quality, {"mentioned": mentioned, "added": added})

    def words(self, text):
        return set(re.findall(r"\w+", text.lower())) - self.ignored
