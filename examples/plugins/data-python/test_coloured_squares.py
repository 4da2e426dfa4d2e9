"""Tests of the data: `python -m pytest`, with the package isr_plugin on the path."""

from coloured_squares import ColouredSquares


def test_splits_share_no_picture():
    data = ColouredSquares({"training": 5, "evaluation": 3})
    training, evaluation = list(data.training()), list(data.evaluation())
    assert (len(training), len(evaluation)) == (5, 3)
    assert not {it.video for it in training} & {it.video for it in evaluation}
    assert evaluation[1].reference == "the square is green."
