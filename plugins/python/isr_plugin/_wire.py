"""The pipe to isr: JSON lines, and the names that stand in them.

The names are those of the Rust module `isr_api::messages`; a test compares them."""

import dataclasses
import json
import os
import select
import signal
import sys
import threading
import traceback

VIEWS = ("chosen", "rejected", "chosen_corrupted", "mismatched")
GRANULARITIES = ("summed", "per_token")
FINISH_REASONS = ("stop", "length")
ROLES = ("system", "user", "assistant")
CONTINUATIONS = ("answer", "opening", "tokens")
SAMPLING = ("temperature", "top_p", "top_k", "max_new_tokens", "stop")

_file = None
_incoming = None
_outgoing = None
_writing = threading.Lock()


def take_over():
    """Keeps the pipes for the protocol, and returns the lines that come in. From now on `print`, and what
    libraries write to descriptor 1, goes to stderr; `input` finds nothing."""
    global _incoming, _outgoing
    if _incoming is None:
        _incoming = os.fdopen(os.dup(0), "r", encoding="utf-8", errors="replace")
        _outgoing = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
    return _incoming


def write(message):
    """Writes a message. Nothing happens outside isr, as where a test calls a judge."""
    line = encoded(message)
    if _outgoing is not None:
        with _writing:
            _outgoing.write(line + "\n")
            _outgoing.flush()


def read(cls, values, **others):
    """A dataclass from a message. Keys that it does not have are ignored: the protocol may gain some."""
    names = {field.name for field in dataclasses.fields(cls)}
    return cls(**{key: value for key, value in values.items() if key in names}, **others)


def encoded(message):
    """A message as JSON. A TypeError or ValueError names what cannot be sent."""
    return json.dumps(message, allow_nan=False, default=_plain)


def _plain(value):
    """numpy scalars and arrays as numbers and lists, paths as text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} cannot be sent to isr")


def explained(error):
    """An exception in one line: its type, its text, and where it was raised."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):  # its text has the place
        return text
    own = os.path.dirname(os.path.abspath(__file__))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if not frame.filename.startswith("<") and os.path.dirname(frame.filename) != own]
    files = [frame for frame in frames if _file is not None and os.path.abspath(frame.filename) == _file]
    shown = frames[-1:] + (files[-1:] if frames[-1:] != files[-1:] else [])
    places = [f"{os.path.basename(frame.filename)}, line {frame.lineno}"
              + ("" if frame.name.startswith("<") else f", in {frame.name}") for frame in shown]
    return f"{text} ({'; from '.join(places)})" if places else text


def serves(path):
    """Notes the plugin's file, which `explained` names."""
    global _file
    _file = os.path.abspath(path)


def end(status):
    """Ends this process, and what it has started: isr made it the leader of a process group of its own."""
    sys.stderr.flush()
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid() and status == 0:
        os.killpg(0, signal.SIGKILL)
    os._exit(status)


def end_with_isr():
    """Ends this process when isr closes its input or is gone, whatever the plugin is doing."""
    def watch():
        poll = select.poll()
        poll.register(_incoming.fileno(), 0)  # the end of the other side is always reported
        poll.poll()
        end(0)

    if hasattr(select, "poll"):
        threading.Thread(target=watch, daemon=True).start()
