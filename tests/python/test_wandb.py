"""wandb reads what the observer of a run wrote, also of one that was cut."""

import json

import pytest
from test_observers import finish, start, steps, summary

datastore = pytest.importorskip("wandb.sdk.internal.datastore")
from wandb.proto import wandb_internal_pb2  # noqa: E402

WANDB = """
[[observers]]
type = "wandb"
project = "tested"
"""


@pytest.fixture(scope="module")
def folder(isr, tmp_path_factory):
    """A run that was cut in its second training and went on."""
    folder = tmp_path_factory.mktemp("wandb")
    run = folder / "run"
    process = start(isr, folder, "watched", "run", WANDB)
    while process.poll() is None:
        lines = run / "iteration-02/metrics.jsonl"
        if lines.exists() and lines.read_bytes().count(b"\n") > 3:
            break
    process.kill()
    process.communicate()
    assert not (run / "iteration-02/checkpoint").exists(), "it was cut in the middle of training"
    finish(isr, folder, "watched", "run", WANDB)
    return folder


@pytest.fixture(scope="module")
def records(folder):
    (offline,) = (folder / "wandb").glob("offline-run-*")
    (path,) = offline.glob("run-*.wandb")
    store = datastore.DataStore()
    store.open_for_scan(str(path))
    records = []
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        records.append(record)
    return records


def history(records):
    of = [record.history for record in records if record.HasField("history")]
    return [{item.nested_key[0]: json.loads(item.value_json) for item in row.item} for row in of]


def test_a_continued_run_is_one_offline_run(folder, records):
    (run,) = [record.run for record in records if record.HasField("run")]
    (offline,) = (folder / "wandb").glob("offline-run-*")
    assert offline.name.endswith(f"-{run.run_id}")
    assert (run.project, run.display_name) == ("tested", "watched")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["train"]["batch_size"] == 2
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]
    assert records[-1].HasField("exit")
    assert [record.num for record in records] == sorted({record.num for record in records})


def test_each_step_is_there_once(folder, records):
    rows = history(records)
    assert [row["_step"] for row in rows] == sorted({row["_step"] for row in rows})
    for iteration in [1, 2]:
        series = f"iteration-{iteration:02}"
        found = [(row[f"{series}/step"], row[f"{series}/training/loss"]) for row in rows if f"{series}/step" in row]
        assert found == [(it["step"], it["loss"]) for it in steps(folder, iteration)]
    accuracy = {row["iterations/step"]: row["iterations/greedy/accuracy"]
                for row in rows if "iterations/greedy/accuracy" in row}
    expected = [summary(folder)["base"]] + [row["evaluation"] for row in summary(folder)["iterations"]]
    assert accuracy == {step: row["greedy"]["accuracy"] for step, row in enumerate(expected) if row}


def test_the_files_beside_it_have_settings_and_newest_values(folder, records):
    import yaml

    (offline,) = (folder / "wandb").glob("offline-run-*")
    config = yaml.safe_load((offline / "files/config.yaml").read_text())
    assert config["train"]["value"]["batch_size"] == 2
    newest = json.loads((offline / "files/wandb-summary.json").read_text())
    assert newest["iterations/step"] == 2
    assert newest["_step"] == history(records)[-1]["_step"]
