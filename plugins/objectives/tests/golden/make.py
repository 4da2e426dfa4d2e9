"""Makes the golden figures of this folder from TRL's own loss functions, in float64 on the CPU.

    pip install torch==2.11.0 transformers==5.23.0 trl==1.16.0
    python make.py                    writes trl.json
    python make.py --excerpt FOLDER   writes trl_float32.json from FOLDER/trl_losses.{json,safetensors},
                                      an earlier, separate float32 run of the same TRL

TRL's code is called as it stands: `DPOTrainer._compute_loss` (loss types `sigmoid` and `sft`) on a
stand-in for a model that returns given log-probs, and `CPOTrainer.cpo_loss` for label smoothing, which
`DPOTrainer` 1.x no longer applies to `sigmoid`; it is given log-ratios to the reference, for which
its formula is that of cDPO.
"""

import argparse
import collections
import json
import pathlib
import random
import types

import torch

HERE = pathlib.Path(__file__).parent
METRICS = ["rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected"]


def pairs(generator, count, spread):
    """Per-token log-probs of `count` pairs under policy and reference, with 1 to 9 tokens an answer."""

    def answer():
        tokens = generator.randint(1, 9)
        policy = [round(-generator.expovariate(0.6), 6) for _ in range(tokens)]
        reference = [round(p + generator.gauss(0.0, spread), 6) for p in policy]
        return {"policy": policy, "reference": reference}

    return [{"chosen": answer(), "rejected": answer()} for _ in range(count)]


def extreme_pairs():
    """Log-ratios of 0 and of +-1e4, one token an answer."""
    ratios = [(0.0, 0.0), (1e4, 0.0), (-1e4, 0.0), (0.0, 1e4), (0.0, -1e4), (5e3, -5e3), (-5e3, 5e3)]
    one = lambda ratio: {"policy": [-1e4 + min(ratio, 0.0)], "reference": [-1e4 - max(ratio, 0.0)]}
    return [{"chosen": one(chosen), "rejected": one(rejected)} for chosen, rejected in ratios]


def padded(answers, key):
    """[answers, longest] log-probs, zero outside the answer, and the completion mask with a prompt token."""
    longest = max(len(answer[key]) for answer in answers)
    rows = [answer[key] + [0.0] * (longest - len(answer[key])) for answer in answers]
    mask = [[0] + [1] * len(answer[key]) + [0] * (longest - len(answer[key])) for answer in answers]
    return torch.tensor(rows, dtype=torch.float64), torch.tensor(mask)


def dpo_loss(batch, loss_type, beta):
    """Loss, gradient by the per-token log-probs, and metrics of `DPOTrainer._compute_loss`."""
    from trl import DPOTrainer

    answers = [pair["chosen"] for pair in batch] + [pair["rejected"] for pair in batch]
    policy, mask = padded(answers, "policy")
    reference, _ = padded(answers, "reference")
    policy.requires_grad_(True)
    zeros = torch.zeros_like(policy)
    outputs = types.SimpleNamespace(
        log_probs=policy, entropy=zeros, mean_logits=zeros, is_top1=torch.zeros_like(zeros, dtype=torch.bool)
    )

    class Model:
        training = True

        def __call__(self, **_):
            return outputs

    same = lambda value: value
    chosen_reference, rejected_reference = reference.sum(dim=1).chunk(2)
    trainer = types.SimpleNamespace(
        model=Model(), accelerator=types.SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same),
        ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", aux_loss_enabled=False,
        loss_types=[loss_type], loss_weights=[1.0], beta=beta, label_smoothing=0.0, use_weighting=False,
        _metrics={"train": collections.defaultdict(list)}, _total_train_tokens=0, _tp_size=1,
    )
    inputs = {
        "input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask,
        "ref_chosen_logps": chosen_reference, "ref_rejected_logps": rejected_reference,
    }
    loss = DPOTrainer._compute_loss(trainer, trainer.model, inputs, False)
    (gradient,) = torch.autograd.grad(loss, policy)
    metrics = {name: trainer._metrics["train"][name][0] for name in METRICS}
    return loss.item(), gradient, metrics


def dpo_case(batch, beta):
    loss, gradient, metrics = dpo_loss(batch, "sigmoid", beta)
    # A summed log-prob has the gradient of each of its tokens.
    chosen, rejected = gradient[:, 0].chunk(2)
    case = {"source": "trl.DPOTrainer._compute_loss, loss type sigmoid", "beta": beta, "label_smoothing": 0.0}
    return case | {"loss": loss, "by_chosen": chosen.tolist(), "by_rejected": rejected.tolist(), "metrics": metrics}


def smoothed_case(batch, beta, label_smoothing):
    from trl.experimental.cpo import CPOTrainer

    total = lambda answer, key: sum(answer[key])
    ratios = lambda side: [total(pair[side], "policy") - total(pair[side], "reference") for pair in batch]
    chosen, rejected = (torch.tensor(ratios(s), dtype=torch.float64, requires_grad=True) for s in ("chosen", "rejected"))
    trainer = types.SimpleNamespace(
        alpha=0.0, accelerator=types.SimpleNamespace(device="cpu"), loss_type="sigmoid", beta=beta,
        label_smoothing=label_smoothing,
    )
    losses = CPOTrainer.cpo_loss(trainer, chosen, rejected)[0]
    by_chosen, by_rejected = torch.autograd.grad(losses.mean(), [chosen, rejected])
    return {
        "source": "trl.experimental.cpo.CPOTrainer.cpo_loss on log-ratios", "beta": beta,
        "label_smoothing": label_smoothing, "loss": losses.mean().item(),
        "by_chosen": by_chosen.tolist(), "by_rejected": by_rejected.tolist(), "metrics": {},
    }


def sft_case(batch):
    """Each pair as a batch of its own: there TRL's mean over the batch's tokens is ours over the example's."""
    alone = [dpo_loss([pair], "sft", 0.1) for pair in batch]
    losses = [loss for loss, _, _ in alone]
    # The gradient of an example's loss is the same for each of its tokens.
    by_token = [gradient[0, 0].item() / len(batch) for _, gradient, _ in alone]
    return {
        "source": "trl.DPOTrainer._compute_loss, loss type sft, one example at a time",
        "loss_per_example": losses, "by_token_per_example": by_token,
    }


def main_file():
    import trl

    generator = random.Random(20250)
    batches = {"near": pairs(generator, 6, 0.3), "far": pairs(generator, 4, 5.0), "extreme": extreme_pairs()}
    cases = []
    for name, batch in batches.items():
        for beta in (0.01, 0.1, 0.5, 2.0):
            cases.append({"batch": name} | dpo_case(batch, beta))
        for beta, label_smoothing in ((0.1, 0.1), (0.1, 0.3), (0.5, 0.1), (2.0, 0.05)):
            cases.append({"batch": name} | smoothed_case(batch, beta, label_smoothing))
    sft = [{"batch": name} | sft_case(batch) for name, batch in batches.items()]
    made_with = {"trl": trl.__version__, "torch": torch.__version__, "dtype": "float64"}
    write("trl.json", {"made_with": made_with, "batches": batches, "dpo": cases, "sft": sft})


def excerpt(folder):
    from safetensors.torch import load_file

    figures = json.loads((folder / "trl_losses.json").read_text())
    tensors = load_file(folder / "trl_losses.safetensors")
    lengths = figures["chosen_lengths"]
    chosen_tokens = [row[row != 0].tolist() for row in tensors["policy_logps"][: len(lengths)]]
    assert [len(row) for row in chosen_tokens] == lengths
    names = ["dpo.sigmoid", "dpo.sigmoid_beta0.5", "dpo.sft", "cpo.sigmoid", "cpo.sigmoid_ls0.1"]
    write("trl_float32.json", {
        "made_with": {"trl": figures["trl"], "torch": figures["torch"], "dtype": "float32"},
        "layout": "sums: six chosen, then six rejected",
        "policy_sum": tensors["policy_sum"].tolist(), "ref_sum": tensors["ref_sum"].tolist(),
        "chosen_tokens": chosen_tokens, "cases": {name: figures["cases"][name] for name in names},
    })


def write(name, value):
    (HERE / name).write_text(json.dumps(value, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--excerpt", type=pathlib.Path)
    arguments = parser.parse_args()
    excerpt(arguments.excerpt) if arguments.excerpt else main_file()
