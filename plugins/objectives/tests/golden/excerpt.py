"""Makes trl_losses.json of this folder from a float32 run of TRL 1.16.0's own loss functions.

    python excerpt.py FOLDER     FOLDER holds trl_losses.{json,safetensors}

The run called `DPOTrainer._compute_loss` for each loss type on given log-probs, `CPOTrainer.cpo_loss`,
`ORPOTrainer.odds_ratio_loss` and `KTOTrainer._compute_loss`. Needs the standard library only.
"""

import json
import pathlib
import struct
import sys

HERE = pathlib.Path(__file__).parent
FIELDS = [
    "args", "beta", "loss_mean", "loss_mean_f64", "loss_per_example", "grad_wrt_sums", "inputs", "chosen_in", "rejected_in",
    "grad_wrt_chosen_in", "grad_wrt_rejected_in", "minus_mean", "grad_of_minus_mean_wrt_chosen_in",
    "grad_of_minus_mean_wrt_rejected_in", "kl",
]


def matrix(path, name):
    """A two-dimensional tensor of a safetensors file as lists."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    entry = json.loads(data[8 : 8 + size])[name]
    start, end = (8 + size + offset for offset in entry["data_offsets"])
    rows, columns = entry["shape"]
    values = struct.unpack(f"<{rows * columns}{'f' if entry['dtype'] == 'F32' else 'q'}", data[start:end])
    return [list(values[row * columns : (row + 1) * columns]) for row in range(rows)]


def main(folder):
    figures = json.loads((folder / "trl_losses.json").read_text())
    tensors = folder / "trl_losses.safetensors"
    mask = [row[1:] for row in matrix(tensors, "completion_mask")]

    def tokens(name):
        """Rows 0 to 5 are chosen answers, 6 to 11 the rejected ones; without padding."""
        return [[x for x, on in zip(row, kept) if on] for row, kept in zip(matrix(tensors, name), mask)]

    cases = {}
    for name, case in figures["cases"].items():
        if name.startswith(("dpo.", "cpo.", "orpo.", "kto.")):
            cases[name] = {field: case[field] for field in FIELDS if case.get(field) is not None}
            if "ld_alpha" in name:
                cases[name]["grad"] = tokens(f"grad.{name}")
    inputs = {"policy": "policy_logps", "reference": "ref_logps", "log_sum_sq_probs": "log_sum_sq_probs"}
    # Of mismatched answers, for KTO: with a reference below the policy, and with one above.
    inputs |= {"kl_policy": "kto_kl_policy_logps", "kl_klpos": "kto_kl_ref_logps_pos", "kl_klneg": "kto_kl_ref_logps_neg"}
    out = {"made_with": {"trl": figures["trl"], "torch": figures["torch"], "dtype": "float32"}}
    out |= {key: tokens(name) for key, name in inputs.items()}
    (HERE / "trl_losses.json").write_text(json.dumps(out | {"cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
