"""What checkpoints of the LLaVA-NeXT repository (`LlavaQwenForCausalLM`) compute with a video.

    python tests/golden/llava_qwen.py --out DIR

Weights and tokenizer are those of `tiny_llava_onevision` beside this file. Transformers' SigLIP and Qwen2 compute the tower
and the decoder; prompt, preprocessing, projector, pooling and newlines are written down here, apart from the project's own
code, by the rules of `llava/model/llava_arch.py`, `llava/conversation.py` and `llava/train/train.py` (LLaVA-NeXT, commit df17966).
`--check REPO` holds pooling and newlines to the functions of `llava_arch.py` in a git clone of LLaVA-NeXT.
"""

import argparse
import json
import math
import subprocess
import types
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "tiny_llava_onevision"
QUESTION = "What is the person in the video doing, and in what order do the actions happen?"
ANSWERS = {
    "chosen": "The person opens the door, walks across the kitchen and places a red cup on the wooden table.",
    "rejected": "A dog is running in the park, then the boat turns and the light changes from green to red twice.",
}
FRAMES, CLIP, FPS, SIZE, BETA = 5, 16, 2.0, (60, 84), 0.1
CASES = {
    "grid": {"mm_newline_position": "grid", "mm_spatial_pool_mode": "average", "add_time_instruction": True},
    "frame": {"mm_newline_position": "frame", "mm_spatial_pool_mode": "max"},
    "one_token": {"mm_newline_position": "one_token", "mm_spatial_pool_mode": "bilinear"},
    "no_token": {"mm_newline_position": "no_token", "mm_spatial_pool_mode": "bilinear"},
}


def pseudo_video():
    t, y, x, c = torch.meshgrid(*[torch.arange(n) for n in (FRAMES, *SIZE, 3)], indexing="ij")
    v = x * 3 + y * 5 + t * 17 + c * 53 + ((x * y) >> 3) * 7 + ((x ^ y) * (t + 1))
    return (v % 256).to(torch.uint8)


def pool(features, side, mode):
    """Features `[frames, side * side, width]`, each of the smaller grid from its own place."""
    grid = features.view(len(features), side, side, -1)
    if mode == "bilinear":
        out = math.ceil(side / 2)

        def taps(index):
            at = max((index + 0.5) * side / out - 0.5, 0.0)
            low = int(at)
            return (low, 1 - (at - low)), (min(low + 1, side - 1), at - low)

        def cell(row, column):
            return sum(grid[:, y, x] * (a * b) for y, a in taps(row) for x, b in taps(column))
    else:
        out = side // 2

        def cell(row, column):
            square = grid[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(1, 2)
            return square.mean(1) if mode == "average" else square.amax(1)

    return torch.stack([cell(row, column) for row in range(out) for column in range(out)], dim=1)


def with_newlines(features, newline, place):
    """One row of features and newlines."""
    frames, tokens, _ = features.shape
    side = math.isqrt(tokens)
    row = []
    for frame in range(frames):
        for token in range(tokens):
            row.append(features[frame, token])
            if place == "grid" and token % side == side - 1:
                row.append(newline)
        if place == "frame":
            row.append(newline)
    if place == "one_token":
        row.append(newline)
    return torch.stack(row)


class Model:
    def __init__(self):
        config = json.loads((SOURCE / "config.json").read_text())
        weights = load_file(SOURCE / "model.safetensors")
        part = lambda prefix: {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        self.text, self.vision = config["text_config"], config["vision_config"]
        eager = {"attn_implementation": "eager"}
        self.tower = SiglipVisionModel._from_config(SiglipVisionConfig(**self.vision), **eager).eval()
        self.tower.load_state_dict(part("vision_tower."))
        self.decoder = Qwen2ForCausalLM._from_config(Qwen2Config(**self.text), **eager).eval()
        self.decoder.load_state_dict(part("language_model."))
        width = self.text["hidden_size"]
        layers = [torch.nn.Linear(width, width), torch.nn.GELU(), torch.nn.Linear(width, width)]
        self.projector = torch.nn.Sequential(*layers)
        for index, name in [(0, "linear_1"), (2, "linear_2")]:
            self.projector[index].load_state_dict(part(f"multi_modal_projector.{name}."))
        self.newline = torch.nn.Parameter(weights["image_newline"])
        self.tokenizer = Tokenizer.from_file(str(SOURCE / "tokenizer.json"))
        self.side = self.vision["image_size"] // self.vision["patch_size"]

    def parameters(self):
        yield "model.image_newline", self.newline
        for prefix, module in [
            ("model.vision_tower.vision_tower.vision_model.", self.tower),
            ("model.mm_projector.", self.projector),
            ("", self.decoder),
        ]:
            for name, parameter in module.named_parameters():
                yield prefix + name, parameter

    def visual(self, video, settings):
        frames = video.permute(0, 3, 1, 2)
        size = [self.vision["image_size"]] * 2
        resized = torch.nn.functional.interpolate(frames, size=size, mode="bicubic", antialias=True)
        pixels = (resized.float() / 255 - 0.5) / 0.5
        # The checkpoint has the layers that are run: LLaVA-NeXT deletes the last one when it loads a tower.
        features = self.tower(pixels, output_hidden_states=True).hidden_states[-1]
        pooled = pool(self.projector(features), self.side, settings["mm_spatial_pool_mode"])
        return with_newlines(pooled, self.newline, settings["mm_newline_position"])

    def prompt(self, settings):
        text = QUESTION
        if settings.get("add_time_instruction"):
            seconds = [index * (CLIP - 1) // (FRAMES - 1) / FPS for index in range(FRAMES)]
            times = ",".join(f"{second:.2f}s" for second in seconds)
            text = (
                f"The video lasts for {CLIP / FPS:.2f} seconds, and {FRAMES} frames are uniformly sampled from it. These "
                f"frames are located at {times}.Please answer the following questions related to this video.\n{text}"
            )
        system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        return f"{system}<|im_start|>user\n<image>\n{text}<|im_end|>\n<|im_start|>assistant\n"

    def ids(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def logits(self, prompt, visual, answer):
        before, behind = prompt.split("<image>")
        embed = lambda ids: self.decoder.model.embed_tokens(torch.tensor(ids, dtype=torch.long))
        row = [embed(self.ids(before)), visual, embed(self.ids(behind)), embed(answer)]
        return self.decoder(inputs_embeds=torch.cat(row)[None]).logits[0]

    def logps(self, prompt, visual, answer):
        logits = self.logits(prompt, visual, answer)[-1 - len(answer) : -1]
        return logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None])[:, 0]


def make(name, settings, out):
    model, video = Model(), pseudo_video()
    prompt = model.prompt(settings)
    answers = {key: model.ids(f"{text}<|im_end|>") for key, text in ANSWERS.items()}
    tensors, greedy = {}, []
    with torch.no_grad():
        visual = model.visual(video, settings)
        tensors["logits_tail"] = model.logits(prompt, visual, [])[-4:]
        while len(greedy) < 24:
            greedy.append(int(model.logits(prompt, visual, greedy)[-1].argmax()))
        reference = {key: model.logps(prompt, visual, ids) * 0.9 for key, ids in answers.items()}
    visual = model.visual(video, settings)
    policy = {key: model.logps(prompt, visual, ids) for key, ids in answers.items()}
    margin = [policy[key].sum() - reference[key].sum() for key in ("chosen", "rejected")]
    loss = -torch.nn.functional.logsigmoid(BETA * (margin[0] - margin[1]))
    loss.backward()
    gradients = {name: value.grad for name, value in model.parameters() if value.grad is not None}
    for key in answers:
        tensors[f"{key}_logps"], tensors[f"{key}_ref_logps"] = policy[key], reference[key]
    config = {
        **{key: value for key, value in model.text.items() if key != "model_type"},
        "architectures": ["LlavaQwenForCausalLM"], "model_type": "llava", "mm_hidden_size": model.text["hidden_size"],
        "mm_projector_type": "mlp2x_gelu", "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "mm_vision_select_layer": -2, "mm_patch_merge_type": "spatial_unpad", "mm_spatial_pool_stride": 2,
        "add_faster_video": False, "force_sample": True, **settings,
    }  # fmt: skip
    numbers = {
        "family": f"llava_qwen_{name}", "model": SOURCE.name, "config": config, "frames": FRAMES, "clip_frames": CLIP,
        "fps": FPS, "source_hw": SIZE, "question": QUESTION, "prompt": prompt, "visual_tokens": len(visual),
        "responses": {
            **{f"{key}_text": f"{text}<|im_end|>" for key, text in ANSWERS.items()},
            **{f"{key}_ids": ids for key, ids in answers.items()},
        },
        "greedy_ids": greedy, "dpo": {"beta": BETA}, "loss": loss.item(),
        "grad_norms": {key: value.norm().item() for key, value in gradients.items()},
        "versions": {"torch": torch.__version__, "LLaVA-NeXT": "df179663ae8b83207df100a1f7af24caec633ff9"},
    }  # fmt: skip
    (out / f"llava_qwen_{name}.json").write_text(json.dumps(numbers, indent=1) + "\n")
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, out / f"llava_qwen_{name}.safetensors")


def check(repository):
    """Compares `pool` and `with_newlines` with the functions of LLaVA-NeXT itself."""
    show = ["git", "-C", repository, "show", "df179663ae8b83207df100a1f7af24caec633ff9:llava/model/llava_arch.py"]
    source = subprocess.run(show, check=True, capture_output=True, text=True).stdout
    start = source.index("    def get_2dPool(")
    wanted = source[start : source.index("    def encode_images(")] + source[
        source.index("    def add_token_per_grid(") : source.index("    def prepare_inputs_labels_for_multimodal(")
    ]
    space = {"nn": torch.nn, "math": math, "torch": torch}
    exec("class Theirs:\n" + wanted, space)  # noqa: S102
    theirs = space["Theirs"]()
    newline = torch.randn(8)
    theirs.model = types.SimpleNamespace(image_newline=newline)
    for side in (4, 5, 27):
        theirs.get_vision_tower = lambda side=side: types.SimpleNamespace(num_patches_per_side=side)
        features = torch.randn(3, side * side, 8)
        for mode in ("average", "max", "bilinear"):
            theirs.config = types.SimpleNamespace(mm_spatial_pool_mode=mode, add_faster_video=False)
            expected = theirs.get_2dPool(features)
            ours = pool(features, side, mode)
            assert torch.allclose(ours, expected, atol=1e-5), (side, mode)
            grid = theirs.add_token_per_grid(expected)
            frame = theirs.add_token_per_frame(expected).flatten(0, 1)
            one = torch.cat((expected.flatten(0, 1), newline[None]))
            for place, row in [("grid", grid), ("frame", frame), ("one_token", one)]:
                assert torch.allclose(with_newlines(ours, newline, place), row, atol=1e-5), (side, mode, place)
    print("pooling and newlines are those of LLaVA-NeXT")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out")
    parser.add_argument("--check", metavar="REPO")
    args = parser.parse_args()
    if args.check:
        check(args.check)
    if args.out:
        Path(args.out).mkdir(parents=True, exist_ok=True)
        for name, settings in CASES.items():
            make(name, settings, Path(args.out))
