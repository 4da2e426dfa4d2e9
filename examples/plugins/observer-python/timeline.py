"""An observer that keeps a table: a line for each event of a run."""

import csv
import json
import os

from isr_plugin import Observer, log

COLUMNS = ["time", "event", "iteration", "stage", "rest"]


class Timeline(Observer):
    """Writes a line for each event of a run to a CSV file in the run's directory, and one for each iteration to the
    log. A run that goes on appends to its file."""

    version = "0.1.0"
    defaults = {"file": "timeline.csv"}

    def setup(self):
        if os.path.basename(self.settings["file"]) != self.settings["file"]:
            raise ValueError("file must be a name without a folder: it stands in the run's directory")
        self.file, self.rows = None, None

    def observe(self, event):
        if event["event"] == "run_started":
            self.open(os.path.join(event["dir"], self.settings["file"]))
        # Whatever an event has beside the columns is kept as JSON, keys of later versions included.
        rest = {key: value for key, value in event.items() if key not in COLUMNS}
        known = [event.get(column, "") for column in COLUMNS[:-1]]
        self.rows.writerow([*known, json.dumps(rest)])
        self.file.flush()
        if event["event"] == "iteration_finished":
            metrics = event["metrics"]
            log(f"iteration {event['summary']['iteration']}: loss {metrics['training.last_loss']}, "
                f"{metrics['pairs.kept']:.0f} pairs")

    def open(self, path):
        is_new = not os.path.exists(path)
        self.file = open(path, "a", newline="", encoding="utf-8")
        self.rows = csv.writer(self.file, lineterminator="\n")
        if is_new:
            self.rows.writerow(COLUMNS)

    def flush(self):
        if self.file is not None:
            os.fsync(self.file.fileno())
