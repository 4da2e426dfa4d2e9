"""An objective: DPO whose preferred answer has to win by a margin (ODPO, arXiv 2402.10571, with one offset for all
pairs)."""

import math

from isr_plugin import Objective


class SoftMargin(Objective):
    """Softplus of `margin - beta * d`, where d is by how much the log-ratio of the chosen answer exceeds that of the
    rejected one."""

    version = "0.1.0"
    defaults = {"beta": 0.1, "margin": 0.5}

    def setup(self):
        if not self.settings["beta"] > 0:
            raise ValueError(f"beta is {self.settings['beta']}; it must be more than 0")

    def evaluate(self, chosen, rejected):
        beta, margin = self.settings["beta"], self.settings["margin"]
        lists = (chosen.policy, chosen.reference, rejected.policy, rejected.reference)
        pairs = len(chosen.policy)
        # The loss is a mean over pairs: the trainer splits batches.
        short = [margin - beta * ((c - cr) - (r - rr)) for c, cr, r, rr in zip(*lists, strict=True)]
        slopes = [-beta * sigmoid(x) / pairs for x in short]
        loss = sum(softplus(x) for x in short) / pairs
        accuracy = sum(x < margin for x in short) / pairs
        return loss, [slopes, [-slope for slope in slopes]], {"accuracy": accuracy}


def softplus(x):
    """ln(1 + e^x), finite for a number of any size."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sigmoid(x):
    """1 / (1 + e^-x) for a number of any size."""
    return 0.5 + 0.5 * math.tanh(0.5 * x)
