"""TensorBoard and MLflow read what the observers of a run wrote, also of one that was cut."""

import json
import subprocess
import time

import pytest
from conftest import ROOT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

RUN = """
extends = "{root}/configs/quickstart.toml"
name = "watched"
policy = {{ model = "{root}/configs/base", training = {{ micro_batch = 4 }} }}
data = {{ dir = "world", training_clips = 8, evaluation_clips = 2 }}
loop = {{ iterations = 2, sampling = {{ max_new_tokens = 8 }} }}
train = {{ epochs = 12, batch_size = 2 }}
judge = {{ type = "reference", oracle = true }}
{observers}
"""

BOTH = """
[[observers]]
type = "tensorboard"
[[observers]]
type = "mlflow"
experiment = "a: 'test' #1"
"""


def start(isr, folder, name, out, observers):
    (folder / f"{name}.toml").write_text(RUN.format(root=ROOT, observers=observers))
    command = [isr, "run", f"{name}.toml", "--out", out]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(*args):
    process = start(*args)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    return said


def recorded(run, iteration):
    """Bytes of the curves of an iteration's training."""
    return sum(it.stat().st_size for it in run.glob(f"tensorboard/iteration-{iteration:02}/*"))


@pytest.fixture(scope="module")
def folder(isr, tmp_path_factory):
    """A run that was cut in each iteration and went on, and an equal one that nobody watched."""
    folder = tmp_path_factory.mktemp("observers")
    finish(isr, folder, "plain", "plain", "")
    run = folder / "run"
    for cut in [lambda: (run / "iteration-01/checkpoint").exists(), lambda: recorded(run, 2) > 1000]:
        process = start(isr, folder, "watched", "run", BOTH)
        while process.poll() is None and not cut():
            time.sleep(0.005)
        process.kill()
        process.communicate()
    assert not (run / "iteration-02/checkpoint").exists(), "it was cut in the middle of training"
    finish(isr, folder, "watched", "run", BOTH)
    return folder


def steps(folder, iteration):
    lines = (folder / f"run/iteration-{iteration:02}/metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def summary(folder):
    return json.loads((folder / "run/summary.json").read_text())


def evaluations(folder):
    """Accuracy of greedy answers by iteration, as the run itself wrote it."""
    rows = [summary(folder)["base"]] + [row["evaluation"] for row in summary(folder)["iterations"]]
    return {step: row["greedy"]["accuracy"] for step, row in enumerate(rows) if row}


def test_tensorboard_reads_each_step_once(folder):
    assert len(list((folder / "run/tensorboard/iteration-02").iterdir())) == 2, "two sessions wrote steps"
    for iteration in [1, 2]:
        events = EventAccumulator(str(folder / f"run/tensorboard/iteration-{iteration:02}")).Reload()
        expected = [(it["step"], pytest.approx(it["loss"], rel=1e-6)) for it in steps(folder, iteration)]
        assert len(expected) > 3
        assert [(it.step, it.value) for it in events.Scalars("training/loss")] == expected
    events = EventAccumulator(str(folder / "run/tensorboard/iterations")).Reload()
    accuracy = {it.step: it.value for it in events.Scalars("greedy/accuracy")}
    assert len(events.Scalars("greedy/accuracy")) == len(accuracy)
    assert accuracy == pytest.approx(evaluations(folder), rel=1e-6)
    verdicts = [(it.step, it.value) for it in events.Scalars("judge/verdicts")]
    assert verdicts == [(row["iteration"], row["judge"]["verdicts"]) for row in summary(folder)["iterations"]]


def test_mlflow_reads_each_step_once(folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    client = MlflowClient(f"file://{folder / 'mlruns'}")
    experiment = next(it for it in client.search_experiments() if it.name == "a: 'test' #1")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "watched"
    assert run.info.status == "FINISHED"
    assert run.data.params["train/batch_size"] == "2"
    for iteration in [1, 2]:
        history = client.get_metric_history(run.info.run_id, f"iteration-{iteration:02}/training/loss")
        expected = [(it["step"], it["loss"]) for it in steps(folder, iteration)]
        assert [(it.step, it.value) for it in history] == expected
    history = client.get_metric_history(run.info.run_id, "iterations/greedy/accuracy")
    assert {it.step: it.value for it in history} == evaluations(folder)
    assert len(history) == len(evaluations(folder))


def test_a_run_is_the_same_whoever_watches(folder):
    watched, plain = folder / "run", folder / "plain"
    for name in ["summary.json", "iteration-02/responses.jsonl", "iteration-02/metrics.jsonl"]:
        expected = (plain / name).read_bytes()
        assert (watched / name).read_bytes() == expected, name


def test_an_observer_that_cannot_write_says_so_once_and_ends_nothing(isr, folder):
    (folder / "file").write_text("")
    said = finish(isr, folder, "plain-watched", "deaf", '[[observers]]\ntype = "tensorboard"\ndir = "file/tb"')
    assert said.count("observer `tensorboard` records no more of this run") == 1
    assert "file/tb" in said
    assert (folder / "deaf/summary.json").read_bytes() == (folder / "plain/summary.json").read_bytes()
