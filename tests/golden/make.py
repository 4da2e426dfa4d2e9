"""Makes a tiny random checkpoint of a family, and what transformers computes with it.

    python tests/golden/make.py qwen3_vl --seed 1 --out DIR [--set text_config.num_hidden_layers=3 ...]

The shape is that of `tiny_<family>` beside this file, changed by `--set`; tokenizer, chat template and
processor are taken from there. `qwen2_5_vl_time` is the checkpoint `tiny_qwen2_5_vl` of DIR with a clip whose
time axis is longer than its sides, `llava_onevision_frames` the checkpoint `tiny_llava_onevision` with another number of
frames. Needs torch, torchvision, peft and the versions in tests/python/requirements.txt.

Qwen2-VL and Qwen2.5-VL have the positions that their weights were trained with: see `trained_rope_index`.

Beside the numbers stands a random adapter of queries and values in PEFT's format, `<family>_lora_adapter`.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.video_utils import VideoMetadata

HERE = Path(__file__).resolve().parent
FAMILIES = ["llava", "video_llava", "llava_next_video", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"]
FAMILIES += ["llava_onevision", "internvl", "internvl3_5"]
# 7 frames of 16 at 0.5 a second: steps at 0, 18, 36 and 54 on the time axis, and two rows and columns.
TIMED, CLIP = "qwen2_5_vl_time", {"frames": 7, "clip": 16, "fps": 0.5, "size": [56, 56]}
# Goldens of a checkpoint that another golden has made.
CLIPS = {
    TIMED: ("qwen2_5_vl", CLIP),
    "llava_onevision_frames": ("llava_onevision", {"frames": 5, "size": [96, 40]}),
}
FORMULA = "(x*3 + y*5 + t*17 + c*53 + seed*29 + ((x*y) >> 3)*7 + ((x ^ y) * (t + 1 + seed))) mod 256"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the user's questions."
)
QUESTION = "What is the person in the video doing, and in what order do the actions happen?"
CHOSEN = "The person opens the door, walks across the kitchen and places a red cup on the wooden table."
REJECTED = "A dog is running in the park, then the boat turns and the light changes from green to red twice."
OTHERS = ["Describe how the object moves between the first and the last frame.", "Why?"]
JUDGE = (
    "Visual context: A person walks into a kitchen. Question: {question} Response A: {a} Response B: {b} "
    "Which response answers the question better given the video and the visual context? Answer with a "
    "single letter, A or B."
)


def pseudo_video(frames, height, width, seed):
    t, y, x, c = torch.meshgrid(*[torch.arange(n) for n in (frames, height, width, 3)], indexing="ij")
    v = x * 3 + y * 5 + t * 17 + c * 53 + seed * 29 + ((x * y) >> 3) * 7 + ((x ^ y) * (t + 1 + seed))
    return (v % 256).to(torch.uint8)


def trained_rope_index(model):
    """`get_rope_index` by the rule of Qwen's training code and of transformers up to 5.2: what follows a video
    stands behind the largest position of all three axes. From 5.3 on, transformers has it behind the larger
    of rows and columns (but `rope_deltas`, which `generate` goes by, behind the largest position)."""
    original = model.get_rope_index

    def corrected(input_ids, mm_token_type_ids, **others):
        positions, deltas = original(input_ids, mm_token_type_ids, **others)
        for row, types in enumerate(mm_token_type_ids.tolist()):
            for at in range(1, len(types)):
                if types[at - 1] and not types[at]:
                    behind = positions[:, row, :at].max() + 1
                    positions[:, row, at:] += behind - positions[0, row, at]
            deltas[row] = positions[:, row].max() + 1 - len(types)
        return positions, deltas

    return corrected


class Maker:
    def __init__(self, args):
        self.args, self.qwen = args, args.family.startswith("qwen")
        self.intern = args.family.startswith("internvl")
        self.chatml = self.qwen or self.intern or args.family.startswith("llava_onevision")
        model, _ = CLIPS.get(args.family, (args.family, None))
        self.source = HERE / f"tiny_{model}"
        self.folder = Path(args.out) / f"tiny_{model}"
        self.fps = args.fps if self.qwen else None
        self.size = args.size or ([90, 120] if self.qwen else [70, 84])
        self.processor = AutoProcessor.from_pretrained(self.source)
        self.tokenizer = self.processor.tokenizer
        self.model = self.saved_model() if args.family in CLIPS else self.random_model()
        if model in ("qwen2_vl", "qwen2_5_vl"):
            self.model.model.get_rope_index = trained_rope_index(self.model.model)
        self.video = pseudo_video(args.frames, *self.size, 0)

    def saved_model(self):
        settings = {"dtype": torch.float32, "attn_implementation": "eager"}
        return AutoModelForImageTextToText.from_pretrained(self.folder, **settings).eval()

    def random_model(self):
        config = json.loads((self.source / "config.json").read_text())
        for setting in self.args.set:
            path, value = setting.split("=", 1)
            *parents, key = path.split(".")
            section = config
            for parent in parents:
                section = section[parent]
            section[key] = json.loads(value)
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in self.source.iterdir():
            if file.name not in ("config.json", "model.safetensors"):
                shutil.copy(file, self.folder / file.name)
        (self.folder / "config.json").write_text(json.dumps(config))
        config = AutoConfig.from_pretrained(self.folder)
        config._attn_implementation = config._experts_implementation = "eager"
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).eval()
        generator = torch.Generator().manual_seed(self.args.seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                if parameter.ndim == 1 and name.endswith("weight"):
                    parameter.copy_(1 + 0.1 * noise)
                elif parameter.ndim == 1:
                    parameter.copy_(0.1 * noise)
                elif "embed" in name:
                    parameter.copy_(0.5 * noise)
                else:
                    # Experts are stacked, `[experts, out, in]`.
                    fan_in = parameter.shape[-1] if ".experts." in name else parameter[0].numel()
                    scale = 4.0 if "lm_head" in name else 1.0
                    parameter.copy_(noise * scale / fan_in**0.5)
        model.save_pretrained(self.folder)
        return model

    def prompt(self, question):
        kind = "image" if self.args.family == "llava" else "video"
        messages = [{"role": "user", "content": [{"type": kind}, {"type": "text", "text": question}]}]
        if not self.chatml:
            messages.insert(0, {"role": "system", "content": SYSTEM})
        return self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def inputs(self, prompt, video):
        frames = video.permute(0, 3, 1, 2)
        if self.args.family == "llava":
            # A video is its frames as images, all at one placeholder.
            pixels = self.processor.image_processor(list(frames), return_tensors="pt")["pixel_values"]
            vision, strategy = self.model.config.vision_config, self.model.config.vision_feature_select_strategy
            patches = (vision.image_size // vision.patch_size) ** 2 + (strategy == "full")
            count = len(frames) * patches
            text = prompt.replace("<image>", "<image>" * count)
            return {**self.tokenizer(text, return_tensors="pt"), "pixel_values": pixels}
        total = self.args.clip or len(frames)
        indices = [int(index) for index in numpy.linspace(0, total - 1, len(frames))]
        metadata = VideoMetadata(total_num_frames=total, fps=self.fps or 1.0, frames_indices=indices)
        settings = {"do_sample_frames": False, "return_tensors": "pt"}
        if self.qwen:
            settings["video_metadata"] = [metadata]
        inputs = self.processor(text=[prompt], videos=[frames], **settings)
        return {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}

    def extended(self, inputs, ids):
        """The inputs with an answer behind the prompt."""
        answer = torch.tensor([ids])
        longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], answer], dim=1)}
        longer["attention_mask"] = torch.ones_like(longer["input_ids"])
        if "mm_token_type_ids" in inputs:
            text = torch.zeros_like(answer)
            longer["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], text], dim=1)
        return longer

    def forward(self, inputs):
        if hasattr(self.model.model, "rope_deltas"):
            self.model.model.rope_deltas = None
        return self.model(**inputs).logits[0]

    def answer_logps(self, inputs, ids):
        logits = self.forward(self.extended(inputs, ids))
        start = inputs["input_ids"].shape[1] - 1
        logps = logits[start : start + len(ids)].log_softmax(-1)
        return logps.gather(1, torch.tensor(ids)[:, None])[:, 0]

    def answer_ids(self, text):
        """The answer's tokens behind the golden prompt, the end of the turn included."""
        prompt = self.prompt(QUESTION)
        before = self.tokenizer(prompt)["input_ids"]
        both = self.tokenizer(prompt + self.turn(text))["input_ids"]
        assert both[: len(before)] == before
        return both[len(before) :]

    def turn(self, text):
        """What the chat template writes for the assistant's turn, as far as its end."""
        said = [{"type": "text", "text": text}] if self.chatml else text
        messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": said}]
        full = self.processor.apply_chat_template(messages, tokenize=False)
        start, end = ("<|im_start|>assistant", "<|im_end|>") if self.chatml else ("ASSISTANT:", "</s>")
        turn = full.split(start, 1)[1]
        # LLaVA-OneVision writes a space before the newline in a conversation, none in the generation prompt.
        turn = turn.lstrip(" ").removeprefix("\n") if self.chatml else turn
        return turn[: turn.index(end) + len(end)]

    def greedy(self, inputs):
        if hasattr(self.model.model, "rope_deltas"):
            self.model.model.rope_deltas = None
        out = self.model.generate(**inputs, do_sample=False, max_new_tokens=24)
        return out[0, inputs["input_ids"].shape[1] :].tolist()

    def visual(self, inputs, tensors):
        model = self.model.model
        if self.qwen:
            out = model.get_video_features(
                inputs["pixel_values_videos"], inputs["video_grid_thw"], return_dict=True
            )
            tensors["projected"] = torch.cat(list(out.pooler_output))
            for level, features in enumerate(getattr(out, "deepstack_features", None) or []):
                tensors[f"deepstack_{level}"] = torch.cat(list(features))
            positions, deltas = model.get_rope_index(
                inputs["input_ids"],
                inputs["mm_token_type_ids"],
                video_grid_thw=inputs["video_grid_thw"],
                second_per_grid_ts=inputs.get("second_per_grid_ts"),
                attention_mask=inputs["attention_mask"],
            )
            tensors.update(position_ids=positions, rope_deltas=deltas)
            tensors["proc.video_grid_thw"] = inputs["video_grid_thw"]
            every = inputs["pixel_values_videos"][::16]
            tensors["proc.pixel_values_videos.every_16th"] = every
            return
        pixels = inputs.get("pixel_values", inputs.get("pixel_values_videos"))
        pixels = pixels.flatten(0, 1) if pixels.ndim == 5 else pixels
        tower = model.video_tower if self.args.family == "video_llava" else model.vision_tower
        hidden = tower(pixels, output_hidden_states=True).hidden_states
        if self.intern:
            # Patches of a square are neighbours in width; the projector begins with a norm.
            model.multi_modal_projector.layer_norm.register_forward_pre_hook(
                lambda _, given: tensors.update(shuffled=given[0])
            )
            model.get_image_features(pixels)
            model.multi_modal_projector.layer_norm._forward_pre_hooks.clear()
            tensors["proc.pixel_values_videos.every_4th"] = pixels[::4]
            return
        layers = self.model.config.vision_feature_layer
        layers = [layers] if isinstance(layers, int) else layers
        tensors["vision_selected"] = torch.cat([hidden[layer] for layer in layers], dim=-1)
        tensors["proc.pixel_values_videos.every_4th"] = pixels[::4]

    def perturbed(self):
        """The reference policy: some weights scaled; returns what undoes it."""
        before = {}
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                factors = {"lm_head.weight": 0.9, "mlp.down_proj.weight": 1.25, "self_attn.q_proj.weight": 0.8}
                for end, factor in factors.items():
                    if name.endswith(end) and ("lm_head" in name or "language_model" in name):
                        before[name] = parameter.clone()
                        parameter.mul_(factor)
        return before

    def restore(self, before):
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name in before:
                    parameter.copy_(before[name])

    def loss(self, inputs, answers, reference, beta):
        policy = {name: self.answer_logps(inputs, ids).sum() for name, ids in answers.items()}
        margin = (policy["chosen"] - reference["chosen"].sum()) - (
            policy["rejected"] - reference["rejected"].sum()
        )
        return -torch.nn.functional.logsigmoid(beta * margin)

    def train(self, inputs, answers, reference, numbers, tensors, beta=0.1):
        self.model.zero_grad()
        self.loss(inputs, answers, reference, beta).backward()
        norms = {}
        for name, parameter in self.model.named_parameters():
            norms[name] = None if parameter.grad is None else parameter.grad.norm().item()
            small = parameter.numel() <= (32768 if ".experts." in name else 4096)
            if parameter.grad is not None and small and any(part in name for part in (".0.", "merger", "newline")):
                tensors[f"grad.{name}"] = parameter.grad.clone()
        known = [norm for norm in norms.values() if norm is not None]
        numbers["grad_norms"] = norms
        numbers["grad_total_norm"] = torch.tensor(known).norm().item()
        numbers["dpo"] = {"beta": beta}
        trained = []
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad = "language_model" in name or "lm_head" in name
            trained += [parameter] if parameter.requires_grad else []
        settings = {"lr": 1e-5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
        optimizer = torch.optim.AdamW(trained, **settings)
        losses, gradients = [], []
        for _ in range(5):
            optimizer.zero_grad()
            loss = self.loss(inputs, answers, reference, beta)
            loss.backward()
            losses.append(loss.item())
            gradients.append(torch.nn.utils.clip_grad_norm_(trained, 1.0).item())
            optimizer.step()
        numbers["adamw_5_steps"] = {
            **settings,
            "losses_before_step": losses,
            "grad_norms_before_clip": gradients,
        }

    def judge(self, numbers):
        orders = []
        for a, b in [(CHOSEN, REJECTED), (REJECTED, CHOSEN)]:
            prompt = self.prompt(JUDGE.format(question=QUESTION, a=a, b=b))
            last = self.forward(self.inputs(prompt, self.video))[-1]
            order = {"prompt": prompt}
            for choice in "AB":
                identity = self.answer_ids(choice)[0]
                order[f"id_{choice}"] = identity
                order[f"logit_{choice}"] = last[identity].item()
            orders.append(order)
        numbers["judge"] = {"orders": orders}

    def adapt(self, inputs, answers, numbers, beta=0.1):
        """Three steps of an adapter that PEFT puts on the checkpoint; the reference is the checkpoint itself."""
        settings = {"dtype": torch.float32, "attn_implementation": "eager"}
        self.model = AutoModelForImageTextToText.from_pretrained(self.folder, **settings).eval()
        if "qwen2" in self.args.family:
            self.model.model.get_rope_index = trained_rope_index(self.model.model)
        with torch.no_grad():
            reference = {name: self.answer_logps(inputs, ids) for name, ids in answers.items()}
        targets = r".*language_model.*\.(q_proj|v_proj)"
        peft = get_peft_model(self.model, LoraConfig(r=4, lora_alpha=8, target_modules=targets))
        generator = torch.Generator().manual_seed(self.args.seed + 1)
        trained = {name: value for name, value in peft.named_parameters() if value.requires_grad}
        with torch.no_grad():
            for value in trained.values():
                value.copy_(0.2 * torch.randn(value.shape, generator=generator))
            policy = {name: self.answer_logps(inputs, ids).sum().item() for name, ids in answers.items()}
        peft.peft_config["default"].base_model_name_or_path = self.folder.name
        adapter = Path(self.args.out) / f"{self.args.family}_lora_adapter"
        peft.save_pretrained(adapter)
        (adapter / "README.md").unlink(missing_ok=True)
        optimizer = torch.optim.AdamW(trained.values(), lr=1e-3, weight_decay=0.0)
        losses, norms = [], {}
        for step in range(3):
            optimizer.zero_grad()
            loss = self.loss(inputs, answers, reference, beta)
            loss.backward()
            losses.append(loss.item())
            if not step:
                norms = {name: value.grad.norm().item() for name, value in trained.items()}
            optimizer.step()
        numbers["lora"] = {
            **{f"{name}_sum_logp": value for name, value in policy.items()},
            "grad_norms": norms, "adamw_lr": 1e-3, "weight_decay": 0.0, "losses_before_step": losses,
            "r": 4, "alpha": 8,
        }

    def make(self):
        args = self.args
        prompt = self.prompt(QUESTION)
        inputs = self.inputs(prompt, self.video)
        numbers = {
            "family": args.family, "seed": args.seed, "settings": args.set, "frames": args.frames,
            "source_hw": self.size, "fps": self.fps, "video_formula": FORMULA, "question": QUESTION,
            "model": self.folder.name, "clip_frames": args.clip or args.frames,
            "prompt": prompt, "input_ids": inputs["input_ids"][0].tolist(),
            "versions": {"torch": torch.__version__},
        }
        tensors = {}
        answers = {"chosen": self.answer_ids(CHOSEN), "rejected": self.answer_ids(REJECTED)}
        end = "<|im_end|>" if self.chatml else "</s>"
        numbers["responses"] = {
            "chosen_text": CHOSEN + end, "rejected_text": REJECTED + end,
            "chosen_ids": answers["chosen"], "rejected_ids": answers["rejected"],
        }
        with torch.no_grad():
            self.visual(inputs, tensors)
            tensors["logits_tail"] = self.forward(inputs)[-24:]
            numbers["greedy_ids"] = self.greedy(inputs)
            prompts = [self.prompt(question) for question in OTHERS]
            videos = [pseudo_video(args.frames, *self.size, seed) for seed in (0, 1)]
            greedy = [self.greedy(self.inputs(*pair)) for pair in zip(prompts, videos)]
            numbers["batch2"] = {"prompts": prompts, "video_seeds": [0, 1], "greedy_ids": greedy}
            self.judge(numbers)
            for name, ids in answers.items():
                tensors[f"{name}_logps"] = self.answer_logps(inputs, ids)
            before = self.perturbed()
            reference = {name: self.answer_logps(inputs, ids) for name, ids in answers.items()}
            self.restore(before)
            tensors.update({f"{name}_ref_logps": logps for name, logps in reference.items()})
        self.train(inputs, answers, reference, numbers, tensors)
        self.adapt(inputs, answers, numbers)
        out = Path(args.out)
        (out / f"{args.family}.json").write_text(json.dumps(numbers, indent=1) + "\n")
        tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        save_file(tensors, out / f"{args.family}.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=[*FAMILIES, *CLIPS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--clip", type=int, help="frames of the clip that those are taken from, evenly")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--fps", type=float, default=2.0)
    parser.add_argument("--out", required=True)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=JSON")
    for name, (_, settings) in CLIPS.items():
        if name in sys.argv:
            parser.set_defaults(**settings)
    Maker(parser.parse_args()).make()
