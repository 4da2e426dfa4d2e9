"""Pages of the rows that a dataset yields."""

import dataclasses
import itertools
import threading

from . import BadInput, Demonstration, Preference, Sample
from ._wire import encoded

# A page ends at this size: a line of the protocol is bounded, and rows may be long.
PAGE_BYTES = 4 << 20

_ROWS = {"data": Sample, "preferences": Preference, "demonstrations": Demonstration}


class Pages:
    """The sets of a component, each at the row that comes next."""

    def __init__(self, component):
        self.component = component
        self.row = _ROWS.get(component.kind)
        self.sets = {}  # by name: an iterator, and the number of rows that it has given
        self.lock = threading.Lock()

    def page(self, name, start, count):
        """Rows from `start`. A set is begun anew where another row comes next: after a restart, or to read it again."""
        with self.lock:
            rows, given = self.sets.get(name, (None, -1))
            if given != start:
                rows = itertools.islice(iter(getattr(self.component, name)()), start, None)
            page, size, at_end = [], 0, False
            while len(page) < count and size < PAGE_BYTES:
                try:
                    row = self.plain(next(rows))
                except StopIteration:
                    at_end = True
                    break
                page.append(row)
                size += len(encoded(row))
            if at_end:
                self.sets.pop(name, None)
            else:
                self.sets[name] = rows, start + len(page)
            return {"rows": page, "end": at_end}

    def plain(self, row):
        """A row as the protocol has it; with a reason, one that cannot be used."""
        if isinstance(row, BadInput):
            return {"reason": str(row) or "the row cannot be used"}
        if isinstance(row, self.row):
            row = {key: value for key, value in dataclasses.asdict(row).items() if value is not None}
        if not isinstance(row, dict):
            return {"reason": f"the row is {row!r:.80} ({type(row).__name__}), not a {self.row.__name__}"}
        try:
            encoded(row)
        except (TypeError, ValueError) as error:
            return {"reason": f"{error}: {row!r:.200}"}
        return row
