"""Makes papers.json: figures of mDPO and D2PO by their authors' own functions, in float64 on the CPU.

    pip install torch==2.11.0
    python papers.py MDPO D2PO    folders with clones of luka-group/mDPO (2221bb3) and LotuSrc/D2PO (ec6c9db)

The functions are taken out of their files and called as they stand: `dpo_loss` of `mdpo_trainer.py`, on sums of
the log-probs of trl_losses.json, and `get_batch_logps` of `src/llamafactory/train/trainer_utils.py`, on logits.
"""

import ast
import json
import pathlib
import sys
import types
import typing

import torch

HERE = pathlib.Path(__file__).parent
torch.set_default_dtype(torch.float64)
PAIRS = 6


def function(path, name):
    """A function of a module whose imports are not there."""
    found = [node for node in ast.walk(ast.parse(path.read_text())) if getattr(node, "name", None) == name]
    names = {"torch": torch, "IGNORE_INDEX": -100, **vars(typing)}
    code = "from __future__ import annotations\n" + ast.unparse(found[0])
    exec(compile(code, path.name, "exec"), names)
    return names[name]


def mdpo(folder, beta):
    """Rows of chosen, rejected and corrupted answers: their loss, and its derivative by each policy's sum."""
    given = json.loads((HERE / "trl_losses.json").read_text())
    sums = lambda key: torch.tensor([sum(row) for row in given[key]])
    policy, corrupted = sums("policy").requires_grad_(), sums("kl_policy")[:PAIRS].requires_grad_()
    reference = sums("reference")
    loss = function(folder / "mdpo_trainer.py", "dpo_loss")(
        types.SimpleNamespace(beta=beta),
        policy[:PAIRS], policy[PAIRS:], corrupted,
        reference[:PAIRS], reference[PAIRS:], sums("kl_klpos")[:PAIRS],
    )[0].mean()
    loss.backward()
    gradients = {"chosen": policy.grad[:PAIRS], "rejected": policy.grad[PAIRS:], "corrupted": corrupted.grad}
    return {"beta": beta, "loss": loss.item(), "gradients": {key: it.tolist() for key, it in gradients.items()}}


def d2po(folder, beta, gamma):
    """Per-token log-probs of chosen and then rejected answers of several lengths, and their loss."""
    weighed = function(folder / "src/llamafactory/train/trainer_utils.py", "get_batch_logps")
    torch.manual_seed(7)
    lengths, vocabulary = [5, 3, 1, 4, 6, 2], 9
    labels = torch.full((len(lengths), 8), -100)
    for row, length in enumerate(lengths):
        labels[row, 2 : 2 + length] = torch.randint(vocabulary, (length,))
    policy, reference = (3 * torch.randn(len(lengths), 8, vocabulary) for _ in range(2))
    values = lambda logits: weighed(logits, labels.clone(), gamma=gamma)[0]
    tokens = lambda logits: [
        [logits[row, at - 1].log_softmax(-1)[labels[row, at]].item() for at in range(2, 2 + length)]
        for row, length in enumerate(lengths)
    ]
    ratios = values(policy) - values(reference)
    half = len(lengths) // 2
    loss = -torch.nn.functional.logsigmoid(beta * (ratios[:half] - ratios[half:])).mean()
    return {
        "beta": beta, "gamma": gamma, "loss": loss.item(),
        "policy": tokens(policy), "reference": tokens(reference),
    }


def main(mdpo_folder, d2po_folder):
    out = {
        "made_with": {"torch": torch.__version__.split("+")[0]},
        "mdpo": [mdpo(mdpo_folder, beta) for beta in (0.1, 0.5)],
        "d2po": [d2po(d2po_folder, beta, gamma) for beta, gamma in ((0.1, 0.98), (0.5, 0.5), (0.3, 1.0))],
    }
    (HERE / "papers.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:3]))
