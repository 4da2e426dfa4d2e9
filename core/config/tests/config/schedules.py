"""Writes schedules.json: learning rates by transformers' own schedule functions.

    pip download --no-deps transformers==4.57.1 && unzip transformers-*.whl transformers/optimization.py
    python schedules.py transformers/optimization.py > schedules.json

Only the three pure functions are taken from the file, so torch is not needed.
"""

import ast
import json
import math
import sys

NAMES = {name: f"_get_{name}_schedule_with_warmup_lr_lambda" for name in ("linear", "cosine", "constant")}


def functions(path):
    tree = ast.parse(open(path).read())
    first = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in NAMES.values():
            first.setdefault(node.name, node)
    scope = {"math": math}
    exec(compile(ast.Module(list(first.values()), []), path, "exec"), scope)
    return {name: scope[function] for name, function in NAMES.items()}


def rates(name, function, ratio, total):
    settings = {"num_warmup_steps": math.ceil(total * ratio)}
    if name != "constant":
        settings["num_training_steps"] = total
    if name == "cosine":
        settings["num_cycles"] = 0.5
    return [function(step, **settings) for step in range(total + 1)]


cases = [
    {"schedule": name, "warmup_ratio": ratio, "total": total, "rates": rates(name, function, ratio, total)}
    for name, function in functions(sys.argv[1]).items()
    for ratio, total in [(0.0, 4), (0.1, 1), (0.1, 10), (0.1, 11), (0.1, 70), (0.5, 5), (1.0, 3)]
]
print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")
