"""Makes what both sides start from: a random checkpoint, videos, and our config.

    python benches/peer/make.py FOLDER --size small --ffmpeg PATH
"""

import argparse
import json
import subprocess
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen3Config

from shape import EOS, IMAGE, LARGE, SIZES, SPECIAL, question, vocabulary

TEMPLATE = (
    "{% for m in messages %}{{ m['role'].upper() }}: "
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% endif %}{% endfor %}"
    "{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)

CONFIG = """name = "bench"
seed = 1

[data]
type = "jsonl"
layout = "train"
training = "{folder}/train.jsonl"

[video]
type = "ffmpeg"
sampling = {{ rule = "uniform", frames = {frames} }}

[encoder]
type = "vision_tower"
precision = "{precision}"

[policy]
type = "torch"
model = "{folder}/model"
batch = {batch}
device = "{device}"
precision = "{precision}"

[policy.training]
micro_batch = {micro_batch}
gradient_checkpointing = {checkpointing}

[retrospector]
type = "self"
prompt = "{{% if previous %}}{{{{ previous }}}} {{% endif %}}describe"
sampling = {{ temperature = 1.0, max_new_tokens = {context} }}

[judge]
type = "self"
prompt = "context {{{{ context }}}} question {{{{ question }}}} A {{{{ first }}}} B {{{{ second }}}} which is better"
choices = ["A", "B"]
min_choice_mass = 0.0

[objective]
type = "dpo"

[selection]
type = "consistent"
require_consistent = false

[loop]
iterations = 1
responses = 2
sampling = {{ temperature = 1.0, max_new_tokens = {answer} }}

[train]
epochs = 1
batch_size = {samples}
learning_rate = 1e-6
"""


def headers(model, folder: Path, dtype) -> None:
    """Config and header of a checkpoint whose weights are a hole in a file: for `isr inspect`, which reads no more."""
    width, kind = (2, "BF16") if dtype == torch.bfloat16 else (4, "F32")
    entries, end = {}, 0
    for name, tensor in model.state_dict().items():
        begin, end = end, end + tensor.numel() * width
        entries[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    model.config.save_pretrained(folder)


def checkpoint(folder: Path, size, frames: int, dtype, headers_only: bool) -> None:
    kind, more = {"llama": (LlamaConfig, {}), "qwen3": (Qwen3Config, {"head_dim": 128})}[size.text]
    text = kind(
        **more, vocab_size=size.words, hidden_size=size.hidden, intermediate_size=size.intermediate,
        num_hidden_layers=size.layers, num_attention_heads=size.heads, num_key_value_heads=size.kv_heads,
        max_position_embeddings=max(4096, 256 * frames + 512), bos_token_id=1, eos_token_id=EOS, pad_token_id=0,
    )
    vision = CLIPVisionConfig(
        hidden_size=size.tower_hidden, intermediate_size=4 * size.tower_hidden,
        num_hidden_layers=size.tower_layers, num_attention_heads=size.tower_heads, image_size=224, patch_size=14,
    )
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=IMAGE, image_seq_length=256)
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    if headers_only:
        with torch.device("meta"):
            return headers(LlavaForConditionalGeneration(config), folder, dtype)
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = EOS
    model.save_pretrained(folder)


def tokenizer(folder: Path, size) -> None:
    words = Tokenizer(models.WordLevel(vocabulary(size), unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens([AddedToken(word, special=True) for word in SPECIAL])
    words.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "</s>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    processor = {
        "image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224},
        "crop_size": {"height": 224, "width": 224}, "do_resize": True, "do_center_crop": True,
        "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "resample": 3,
        "do_convert_rgb": True, "image_mean": mean, "image_std": std,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def videos(folder: Path, size, samples: int, ffmpeg: str) -> None:
    lines = []
    for sample in range(samples):
        name = f"video-{sample}.mp4"
        source = f"testsrc2=size=320x240:rate=10:duration=4,hue=h={30 * sample}"
        command = [ffmpeg, "-y", "-loglevel", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"]
        subprocess.run([*command, str(folder / name)], check=True)
        text = question(sample, size)
        turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "w1"}]
        lines.append(json.dumps({"id": f"s{sample}", "video": name, "conversations": turns}))
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--samples", type=int, help="other than the size's own")
    parser.add_argument("--frames", type=int, help="other than the size's own")
    parser.add_argument("--batch", type=int, help="answers decoded at once: ours 8 and batched 4 unless given")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ffmpeg", default="ffmpeg")
    parser.add_argument("--headers-only", action="store_true", help="no weights: for `isr inspect`")
    args = parser.parse_args()
    size = SIZES[args.size]
    samples, frames = args.samples or size.samples, args.frames or size.frames
    folder = args.folder.resolve()
    (folder / "model").mkdir(parents=True, exist_ok=True)
    checkpoint(folder / "model", size, frames, getattr(torch, args.precision), args.headers_only)
    tokenizer(folder / "model", size)
    videos(folder, size, samples, args.ffmpeg)
    large = args.size in LARGE
    values = {"frames": frames, "context": size.context, "answer": size.answer, "samples": samples}
    config = CONFIG.format(
        folder=folder, precision=args.precision, device=args.device, checkpointing=str(large).lower(),
        batch=args.batch or 8, micro_batch=1 if large else min(samples, 4), **values,
    )
    (folder / "bench.toml").write_text(config)
    settings = {"batch": args.batch, "size": args.size, "precision": args.precision, "device": args.device,
                "checkpointing": large, **values}
    (folder / "bench.json").write_text(json.dumps(settings))


if __name__ == "__main__":
    main()
