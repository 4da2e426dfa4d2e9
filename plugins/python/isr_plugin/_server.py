"""Serves components by the protocol of `docs/plugin-protocol.md`."""

import inspect
import json
import math
import numbers
import os
import queue
import re
import sys
import threading
import traceback

from . import (Assessment, BadInput, Context, Evaluator, Judge, JudgeCase, Policy, Response, RetrospectionCase, Sample,
               Scene, View, Vote, __version__, caught)
from ._models import Models
from ._rows import Pages
from ._wire import end, explained, read, take_over, write

PROTOCOL = 1


class Server:
    """Works on calls on one thread or more; another reads what isr writes."""

    def __init__(self, classes):
        self.classes, self.incoming = classes, take_over()
        self.component, self.pages, self.models = None, None, None
        self.messages = queue.SimpleQueue()
        self.answers: Dict[int, queue.SimpleQueue] = {}
        self.cancelled = set()
        self.asked, self.greeted = 0, False
        self.lock = threading.Lock()

    def run(self):
        threading.Thread(target=self.read, daemon=True).start()
        self.work()

    def read(self):
        try:
            self.take_in()
        except Exception as error:  # a line that is no message, or a class that cannot be declared
            traceback.print_exc()
            if not self.greeted:
                write({"type": "error", "id": 0, "code": "failed", "message": explained(error)})
        end(0)  # whatever the workers are doing: nobody waits for it

    def take_in(self):
        for line in self.incoming:
            message = json.loads(line)
            kind = message.get("type")
            if kind == "hello":
                hello = {"type": "hello", "protocol": PROTOCOL, "components": [declare(c) for c in self.classes]}
                self.greeted = True
                write({**hello, "sdk": f"isr_plugin {__version__}, Python {sys.version.split()[0]}"})
            elif kind == "calls":
                self.messages.put(message["calls"])
            elif kind == "answer":
                self.answers.pop(message["id"]).put(message)
            elif kind == "cancel":
                self.cancelled.add(message["id"])

    def work(self):
        while True:
            calls = self.messages.get()
            wanted = [call for call in calls if call["id"] not in self.cancelled]
            for call in calls:
                if call["id"] in self.cancelled:
                    self.cancelled.discard(call["id"])
                    self.reply(call["id"], BadInput("cancelled"))
            for method in dict.fromkeys(call["method"] for call in wanted):
                alike = [call for call in wanted if call["method"] == method]
                if self.is_batched(method):
                    self.work_together(method, alike)
                else:
                    for call in alike:
                        self.reply(call["id"], caught(self.call, call), method)

    def is_batched(self, method):
        """Whether the author has overridden the method that takes several cases."""
        base, name = _BATCHED.get(method, (None, ""))
        if base is None or not isinstance(self.component, base):
            return False
        return getattr(type(self.component), name) is not getattr(base, name)

    def work_together(self, method, calls):
        name = _BATCHED[method][1]
        cases = [self.argument(call) for call in calls]
        values = caught(getattr(self.component, name), cases)
        if isinstance(values, Exception):
            values = [values] * len(calls)
        elif not isinstance(values, (list, tuple)) and not hasattr(values, "tolist") or len(values) != len(calls):
            count = f"{len(values)} answers" if hasattr(values, "__len__") else f"{values!r:.80}"
            wrong = ValueError(f"{name} returned {count} for {len(calls)} cases")
            values = [wrong] * len(calls)
        for call, case, value in zip(calls, cases, values):
            if method in Models.METHODS and not isinstance(value, Exception):
                value = caught(lambda value: self.models.value(method, case, value), value)
            self.reply(call["id"], value, method)

    def argument(self, call):
        """What a method that takes several at once gets of one call."""
        if call["method"] == "judge":
            return self.case(call, JudgeCase)
        if call["method"] in Models.METHODS:
            return self.models.argument(call)
        return self.assessed(call)

    def call(self, call):
        method, params = call["method"], call["params"]
        if method == "configure":
            return self.configure(params)
        if method == "judge":
            return self.component.judge(self.case(call, JudgeCase))
        if method == "describe":
            return self.component.describe(self.case(call, RetrospectionCase))
        if method == "requirements":
            it = self.component
            needs = {"views": list(it.views), "granularity": it.granularity, "reference": it.reference}
            return {**needs, "across_batch": True} if it.across_batch else needs
        if method == "evaluate":
            loss, gradients, *metrics = self.component.evaluate(*(read(View, view) for view in params["views"]))
            return {"loss": loss, "gradients": list(gradients), "metrics": dict(*metrics)}
        if method == "answer":
            return self.component.answer(*self.assessed(call))
        if method == "context":
            return self.component.context(*self.assessed(call))
        if method == "observe":
            return _ignored(self.component.observe(params))
        if method == "flush":
            return _ignored(self.component.flush())
        if method == "rows":
            return self.pages.page(params["set"], params["start"], params["count"])
        if method in Models.METHODS:
            return self.models.call(call)
        raise ValueError(f"there is no method {method}")

    def assessed(self, call):
        """The sample and the text of an `answer` or a `context`."""
        return read(Sample, call["params"]["sample"]), call["params"]["text"]

    def configure(self, params):
        kind, name, settings = params["kind"], params["name"], params["settings"]
        found = [it for it in self.classes if it.kind == kind and _name(it) == name]
        if not found:
            raise ValueError(f"there is no {kind} `{name}`")
        self.component = found[0](settings)
        self.pages = Pages(self.component)
        self.models = Models(self.component, params.get("exchange"), self.cancelled)
        for _ in range(self.component.workers - 1):
            threading.Thread(target=self.work, daemon=True).start()

    def case(self, call, cls):
        def ask(method, params):
            return self.ask(call["id"], method, params)

        params = dict(call["params"])
        params["scene"] = read(Scene, params["scene"], _ask=ask)
        for key, of in (("context", Context), ("previous", Context), ("first", Response), ("second", Response)):
            if params.get(key) is not None:
                params[key] = read(of, params[key])
        return read(cls, params)

    def ask(self, call, method, params):
        with self.lock:
            self.asked += 1
            question = self.asked
            answer = self.answers[question] = queue.SimpleQueue()
        write({"type": "ask", "id": question, "call": call, "method": method, "params": params})
        message = answer.get()
        if "error" in message:
            error = message["error"]
            raise (BadInput if error["code"] == "bad_input" else RuntimeError)(error["message"])
        return message["value"]

    def reply(self, call, value, method=None):
        if isinstance(value, Exception):
            return self.report(call, value)
        if method in _RETURNS and not _RETURNS[method][0](value):
            return self.report(call, BadInput(self.unusable(method, value)))
        if isinstance(value, list) and all(isinstance(it, Vote) for it in value):
            value = {"votes": [vars(vote) for vote in value]}
        try:
            if isinstance(value, Assessment):
                value = _figures(value)
            write({"type": "result", "id": call, "value": value})
        except BadInput as error:
            self.report(call, error)
        except (TypeError, ValueError) as error:
            self.report(call, BadInput(f"{error}: {value!r:.200}"))

    def unusable(self, method, value):
        name = _BATCHED[method][1] if self.is_batched(method) else method
        code = getattr(getattr(type(self.component), name), "__code__", None)
        where = f" ({os.path.basename(code.co_filename)}, line {code.co_firstlineno})" if code else ""
        kind = type(value).__name__
        return f"its answer cannot be used: {name} returned {value!r:.80} ({kind}), not {_RETURNS[method][1]}{where}"

    def report(self, call, error):
        if isinstance(error, BadInput):
            return write({"type": "error", "id": call, "code": "bad_input", "message": str(error)})
        traceback.print_exception(type(error), error, error.__traceback__)
        write({"type": "error", "id": call, "code": "failed", "message": explained(error)})


def _is_verdict(value):
    """A number, numpy's included; votes; or a verdict as the protocol has it."""
    if isinstance(value, list):
        return len(value) > 0 and all(isinstance(it, Vote) for it in value)
    return not isinstance(value, bool) and isinstance(value, (numbers.Real, dict)) or hasattr(value, "tolist")


def _is_assessment(value):
    """None, an assessment, or one as the protocol has it."""
    return value is None or isinstance(value, (Assessment, dict))


def _figures(assessment):
    """An assessment as the protocol has it. A BadInput names a figure that is no finite number."""
    def number(name, value):
        value = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(value, numbers.Real):
            raise BadInput(f"its answer cannot be used: `{name}` is {value!r:.80} ({type(value).__name__}), not a number")
        if not math.isfinite(value):
            raise BadInput(f"its answer cannot be used: `{name}` is {value}; leave out a metric without a value")
        return float(value)

    if not isinstance(assessment.metrics, dict):
        kind = type(assessment.metrics).__name__
        raise BadInput(f"its answer cannot be used: `metrics` is a {kind}, not a dict of numbers by name")
    metrics = {str(name): number(name, value) for name, value in assessment.metrics.items()}
    return {"quality": number("quality", assessment.quality), "metrics": metrics}


def _ignored(_value):
    """What an observer returns is of no use to anybody, and may be nothing that JSON has."""
    return None


# Methods that take several cases at once where an author overrides them.
_BATCHED = {"judge": (Judge, "judge_batch"), "answer": (Evaluator, "answer_batch"),
            "generate": (Policy, "generate_batch"), "score": (Policy, "score_batch")}

_ASSESSMENT = (_is_assessment, "None or an Assessment")
_RETURNS = {"judge": (_is_verdict, "a probability or a list of votes"),
            "describe": (lambda value: isinstance(value, str), "a text"),
            "answer": _ASSESSMENT, "context": _ASSESSMENT}


def _name(component):
    return component.name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", component.__name__).lower()


def declare(component):
    schema = component.schema or _schema(component.defaults)
    text = component.help or inspect.getdoc(component) or ""
    features = ["costly"] if getattr(component, "costly", False) else []
    return {"kind": component.kind, "name": _name(component), "version": component.version, "help": text,
            "schema": schema, "example": component.example, "workers": component.workers, "features": features}


_TYPES = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"),
          (dict, "object"))


def _schema(defaults):
    def of(value):
        kinds = [name for kind, name in _TYPES if isinstance(value, kind)]
        return {"default": value, **({"type": kinds[0]} if kinds else {})}

    properties = {key: of(value) for key, value in defaults.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}
