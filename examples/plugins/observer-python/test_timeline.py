"""Tests of the observer: `python -m pytest`, with the package isr_plugin on the path."""

import csv

from timeline import Timeline


def test_a_line_for_each_event(tmp_path):
    observer = Timeline()
    observer.observe({"time": 1.5, "event": "run_started", "run": "a", "dir": str(tmp_path), "iteration": 1, "iterations": 1})
    observer.observe({"time": 2.5, "event": "item_done", "stage": "judge", "count": 3})
    observer.flush()
    with open(tmp_path / "timeline.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["event"] for row in rows] == ["run_started", "item_done"]
    assert rows[1]["stage"] == "judge"
    assert rows[1]["rest"] == '{"count": 3}'
