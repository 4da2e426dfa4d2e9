"""`python -m isr_plugin FILE` serves a plugin file."""

import importlib.util
import inspect
import os
import sys
import traceback

import isr_plugin
from isr_plugin import _wire

NAME = "isr_plugin_file"


def main(path):
    """Loads a file and serves the classes in it, unless it calls `serve` itself."""
    _wire.take_over()
    _wire.serves(path)
    _wire.end_with_isr()
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location(NAME, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # also what `sys.exit` raises
        traceback.print_exc()
        message = f"the file cannot be loaded: {_wire.explained(error)}"
        _wire.write({"type": "error", "id": 0, "code": "failed", "message": message})
        _wire.end(1)
    isr_plugin.serve(*filter(is_own, vars(module).values()))


def is_own(it):
    """A component that the file itself defines."""
    return (inspect.isclass(it) and issubclass(it, isr_plugin.Component) and it.__module__ == NAME
            and not it.__name__.startswith("_"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m isr_plugin FILE")
    main(sys.argv[1])
