"""Preference pairs from ratings: of two answers to a prompt, the one with more stars is chosen."""

import csv

from isr_plugin import BadInput, Preference, Preferences


class ByStars(Preferences):
    """Pairs from a CSV file of rated answers, with the columns `prompt`, `first`, `first_stars`, `second` and
    `second_stars`, and perhaps `video`. Rows whose ratings are equal are quarantined."""

    version = "0.1.0"
    defaults = {"path": "by_stars.csv"}

    def rows(self):
        path = self.find(self.settings["path"])
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                yield pair(row)


def pair(row):
    try:
        first, second = float(row["first_stars"]), float(row["second_stars"])
    except (KeyError, TypeError, ValueError) as error:
        return BadInput(f"the stars cannot be read: {error}")
    if first == second:
        return BadInput(f"both answers have {first:g} stars")
    both = [row["first"], row["second"]]
    chosen, rejected = both if first > second else reversed(both)
    return Preference(row["prompt"], chosen, rejected, video=row.get("video") or None)
