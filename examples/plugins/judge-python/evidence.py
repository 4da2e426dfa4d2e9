"""A judge without a model: the answer whose words the video's description supports is better."""

import math
import re

from isr_plugin import BadInput, Judge


class Evidence(Judge):
    """Prefers the answer with the larger share of words that stand in the visual context. Needs a run with a
    retrospector."""

    version = "0.1.0"
    defaults = {"sharpness": 4.0}

    def setup(self):
        if not self.settings["sharpness"] > 0:
            raise ValueError(f"sharpness is {self.settings['sharpness']}; it must be more than 0")

    def judge(self, case):
        if case.context is None:
            raise BadInput("there is no visual context; name a retrospector, or take another judge")
        seen = words(case.context.text)
        gain = share(case.first.text, seen) - share(case.second.text, seen)
        return sigmoid(self.settings["sharpness"] * gain)


def words(text):
    return set(re.findall(r"\w+", text.lower()))


def share(answer, seen):
    said = words(answer)
    return len(said & seen) / len(said) if said else 0.0


def sigmoid(x):
    """1 / (1 + e^-x) for a number of any size; sigmoid(-x) is 1 - sigmoid(x) to the last bit."""
    half = 0.5 * math.tanh(0.5 * x)
    return 0.5 + half
