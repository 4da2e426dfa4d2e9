"""Makes small adapters of `tiny_llava` with PEFT, and what PEFT computes with them.

    python tests/golden/adapters.py            # writes llava_<kind>_adapter/ and adapters.json beside this file

Kinds: `dora`, `patterns` (ranks and alphas by pattern, rsLoRA), `layers` (DoRA on chosen
layers), `saved` (`modules_to_save`), `tied` (the same where the embedding is the output layer). Of each: log-probs of the
golden answers, norms of the DPO loss's gradients by parameter, losses of five AdamW steps, and log-probs behind them. The
reference of the loss is the base. Needs the versions in tests/python/requirements.txt.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, __version__, get_peft_model
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))
from test_checkpoint import pixels, sequence_logits  # noqa: E402

BASE = HERE / "tiny_llava"
SETTINGS = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
BETA = 0.1
KINDS = {
    "dora": {
        "use_dora": True, "target_modules": ["q_proj", "v_proj", "down_proj", "linear_1"],
        "exclude_modules": r".*vision_tower.*",
    },
    "patterns": {
        "use_rslora": True, "target_modules": ["q_proj", "v_proj", "up_proj"], "exclude_modules": ["mlp.fc1"],
        "rank_pattern": {r"0\.self_attn\.[qk]_proj": 2, "up_proj": 6},
        "alpha_pattern": {r"language_model\.layers\.\d+\.self_attn\.v_proj": 20},
    },
    "layers": {
        "use_dora": True, "target_modules": ["q_proj", "gate_proj"], "layers_to_transform": [1],
        "layers_pattern": "layers", "rank_pattern": {"gate_proj": 3},
    },
    "saved": {
        "target_modules": r".*language_model.*\.(q_proj|o_proj)",
        "modules_to_save": ["lm_head", "embed_tokens", "linear_2", "language_model.norm"],
    },
    "tied": {"target_modules": r".*language_model.*\.q_proj", "modules_to_save": ["lm_head"]},
}


def pseudo_video(frames, height, width):
    """See `video_formula` in the golden files."""
    t, y, x, c = torch.meshgrid(*[torch.arange(n) for n in (frames, height, width, 3)], indexing="ij")
    return ((x * 3 + y * 5 + t * 17 + c * 53 + ((x * y) >> 3) * 7 + (x ^ y) * (t + 1)) % 256).to(torch.uint8)


class Maker:
    def __init__(self):
        self.golden = json.loads((HERE / "llava.json").read_text())
        frames = pseudo_video(self.golden["frames"], *self.golden["source_hw"])
        # `pixels` looks for the preprocessor's config in the checkpoint's folder.
        self.pixels = pixels(BASE, {"frames": frames})
        self.prompt = self.golden["input_ids"]
        self.answers = [self.golden["responses"][f"{name}_ids"] for name in ("chosen", "rejected")]

    def base(self, kind):
        model = LlavaForConditionalGeneration.from_pretrained(
            BASE, dtype=torch.float32, attn_implementation="eager"
        )
        if kind == "tied":
            model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = True
            model.lm_head.weight = model.get_input_embeddings().weight
        return model.eval()

    def log_probs(self, model, answer):
        logits = sequence_logits(model, self.pixels, self.prompt + answer)[len(self.prompt) - 1 : -1]
        return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]

    def loss(self, model, reference):
        ratios = [self.log_probs(model, ids).sum() - ref for ids, ref in zip(self.answers, reference)]
        return -torch.nn.functional.logsigmoid(BETA * (ratios[0] - ratios[1]))

    def adapter(self, kind, out):
        settings = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, **KINDS[kind]}
        model = get_peft_model(self.base(kind), LoraConfig(**settings))
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if "lora_A" in name or "lora_B" in name:
                    parameter.copy_(0.15 * noise)
                elif "lora_magnitude" in name:
                    parameter.mul_(1 + 0.1 * noise)
                elif "modules_to_save" in name:
                    parameter.add_(0.05 * noise * parameter.std())
        model.save_pretrained(out)
        (out / "README.md").unlink(missing_ok=True)
        config = json.loads((out / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = "models/tiny_llava"
        for key in ("target_modules", "modules_to_save"):
            config[key] = sorted(config[key]) if isinstance(config[key], list) else config[key]
        (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    def make(self, kind):
        out = HERE / f"llava_{kind}_adapter"
        shutil.rmtree(out, ignore_errors=True)
        self.adapter(kind, out)
        model = self.base(kind)
        with torch.no_grad():
            reference = [self.log_probs(model, ids).sum() for ids in self.answers]
        model = PeftModel.from_pretrained(model, out, is_trainable=True).eval()
        with torch.no_grad():
            before = [self.log_probs(model, ids) for ids in self.answers]
        trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
        optimizer, losses, norms = torch.optim.AdamW(trained.values(), **SETTINGS), [], {}
        for step in range(5):
            optimizer.zero_grad()
            loss = self.loss(model, reference)
            loss.backward()
            losses.append(loss.item())
            if step == 0:
                known = {name: value.grad for name, value in trained.items() if value.grad is not None}
                norms = {name: gradient.norm().item() for name, gradient in known.items()}
            optimizer.step()
        with torch.no_grad():
            behind = [self.log_probs(model, ids) for ids in self.answers]
        return {
            "base": [value.item() for value in reference],
            "log_probs": [values.tolist() for values in before],
            "grad_norms": norms,
            "losses_before_step": losses,
            "log_probs_behind": [values.tolist() for values in behind],
        }


if __name__ == "__main__":
    maker = Maker()
    with torch.no_grad():
        chosen = maker.log_probs(maker.base("dora"), maker.answers[0])
    expected = load_file(HERE / "llava.safetensors")["chosen_logps"]
    assert (chosen - expected).abs().max() < 1e-4, "the pixels are those of the processor"
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": __version__}
    numbers = {"versions": versions, "beta": BETA, **SETTINGS}
    numbers["kinds"] = {kind: maker.make(kind) for kind in KINDS}
    (HERE / "adapters.json").write_text(json.dumps(numbers, indent=1) + "\n")
