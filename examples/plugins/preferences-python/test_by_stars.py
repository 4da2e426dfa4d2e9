"""Tests of the preferences: `python -m pytest`, with the package isr_plugin on the path."""

from isr_plugin import BadInput
from by_stars import ByStars, pair


def test_more_stars_are_chosen_and_equal_ones_refused():
    rows = list(ByStars().rows())
    assert rows[1].chosen == "a bicycle has two wheels."
    assert isinstance(rows[-1], BadInput)
    assert isinstance(pair({"first_stars": "many", "second_stars": "1"}), BadInput)
