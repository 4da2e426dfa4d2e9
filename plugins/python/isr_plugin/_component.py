"""What components of all kinds have in common."""

import inspect
import os
from typing import Any, Dict, Optional


class BadInput(Exception):
    """Raised for a case that cannot be processed while others can: its sample is quarantined. In the place of a row of
    preferences or demonstrations it says why that row cannot be used."""


class Component:
    """What components of all kinds have in common."""

    kind = ""
    name = ""            # in configs; by default from the class: BestOfTwo is `best_of_two`
    help = ""            # by default the class's docstring
    version = ""
    defaults: Dict[str, Any] = {}        # settings and their defaults; a schema is made of it
    schema: Optional[Dict[str, Any]] = None  # a JSON schema, where `defaults` does not say enough
    example = ""         # TOML body of a section, where a setting has no default
    workers = 1          # how many messages are worked on at a time, each on a thread

    def __init__(self, settings=None):
        self.settings = {**self.defaults, **(settings or {})}
        self.setup()

    def setup(self):
        """Called once with `self.settings` set; a ValueError names the setting that is wrong."""

    def find(self, path):
        """A path as it is where there is such a file or folder, else beside the plugin's file."""
        return path if os.path.exists(path) else os.path.join(os.path.dirname(inspect.getfile(type(self))), path)


def caught(function, argument):
    """What a function returns, or the exception that it raises."""
    try:
        return function(argument)
    except Exception as error:  # whatever an author's code raises is the case's answer
        return error
