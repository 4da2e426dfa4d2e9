"""`python -m isr_plugin FILE` serves a plugin file."""

import importlib.util
import inspect
import os
import sys

import isr_plugin
from isr_plugin._wire import take_over

NAME = "isr_plugin_file"


def main(path):
    """Loads a file and serves the classes in it, unless it calls `serve` itself."""
    take_over()
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location(NAME, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    isr_plugin.serve(*filter(is_own, vars(module).values()))


def is_own(it):
    """A component that the file itself defines."""
    return (inspect.isclass(it) and issubclass(it, isr_plugin.Component) and it.__module__ == NAME
            and not it.__name__.startswith("_"))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m isr_plugin FILE")
    main(sys.argv[1])
