"""`python -m isr_plugin FILE` serves a plugin file, `python -m isr_plugin --module NAME` an installed module."""

import importlib
import importlib.util
import inspect
import os
import sys
import traceback

import isr_plugin
from isr_plugin import _wire

NAME = "isr_plugin_file"


def main(load, what):
    """Loads a file or a module and serves the classes in it, unless it calls `serve` itself."""
    _wire.take_over()
    _wire.end_with_isr()
    try:
        module = load()
    except BaseException as error:  # also what `sys.exit` raises
        traceback.print_exc()
        message = f"the {what} cannot be loaded: {_wire.explained(error)}"
        _wire.write({"type": "error", "id": 0, "code": "failed", "message": message})
        _wire.end(1)
    own = [it for it in vars(module).values() if is_own(it, module.__name__)]
    isr_plugin.serve(*dict.fromkeys(own))


def load_file(path):
    _wire.serves(path)
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location(NAME, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module


def load_module(name):
    module = importlib.import_module(name)
    if getattr(module, "__file__", None):
        _wire.serves(module.__file__)
    return module


def is_own(it, module):
    """A component that the file or the module itself defines; of a package, also one of its submodules."""
    return (inspect.isclass(it) and issubclass(it, isr_plugin.Component)
            and (it.__module__ == module or it.__module__.startswith(f"{module}."))
            and not it.__name__.startswith("_"))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--module":
        main(lambda: load_module(sys.argv[2]), "module")
    elif len(sys.argv) == 2:
        main(lambda: load_file(sys.argv[1]), "file")
    else:
        sys.exit("usage: python -m isr_plugin FILE, or python -m isr_plugin --module NAME")
