"""Loading of a model with its processor: weights, trained parts, LoRA."""

import json
import os

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.utils import logging

from .settings import ALL_LINEAR

ADAPTER = "adapter_config.json"
# Their text continues behind the largest position of a video: see `trained_positions`.
CORRECTED = ("qwen2_vl", "qwen2_5_vl")


class LoadedModel:
    """A model with its processor. `net` computes; `adapted` is PEFT's wrapper of it where LoRA is trained, else None."""

    def __init__(self, settings, rank=0):
        logging.disable_progress_bar()  # stderr is isr's log
        self.device = choose_device(settings.device, settings.processes, rank)
        base, adapter = resolve(settings.model)
        self.source = base
        self.remote = {"trust_remote_code": settings.trust_remote_code}
        if settings.processes > 1 and hasattr(AutoConfig.from_pretrained(base, **self.remote), "quantization_config"):
            raise ValueError(f"{base} is quantised (quantization_config), and quantised weights cannot be sharded over "
                             f"{settings.processes} processes; set processes = 1, or name a checkpoint that is not quantised")
        self.processor = AutoProcessor.from_pretrained(base, **self.remote)
        self.dtype = choose_dtype(settings.dtype, base, self.device, self.remote)
        self.attention = None if settings.attention == "auto" else settings.attention
        self.net, self.sharding = self.read(base), None
        if settings.processes == 1:
            self.net.to(self.device)
        complete(self.processor, self.net.config)
        self.inner = getattr(self.net, "model", self.net)
        if self.net.config.model_type in CORRECTED:
            self.inner.get_rope_index = trained_positions(self.inner.get_rope_index)
        self.net.eval().requires_grad_(False)
        self.adapted = self.adapt(settings.training, adapter)
        if self.adapted is None:
            for parameter in trained_parameters(self.net, settings.training):
                parameter.requires_grad_(True)
        if settings.training.gradient_checkpointing:
            enable = getattr(self.net, "activation_checkpointing_enable", None) or self.net.gradient_checkpointing_enable
            enable({"use_reentrant": False})

    def read(self, folder):
        """The model of a checkpoint on the host. A ValueError where tensors are missing, unknown or of another shape:
        transformers makes up what is missing."""
        chosen = {} if self.attention is None else {"attn_implementation": self.attention}
        net, report = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=self.dtype, output_loading_info=True, use_safetensors=True, **chosen, **self.remote)
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if found := sorted(str(it) for it in report.get(kind) or []):
                raise ValueError(f"{folder}: {len(found)} {kind.replace('_', ' ')}, such as {found[0]}")
        return net

    def adapt(self, training, folder):
        """PEFT's wrapper of the model, from the folder of an adapter or new; None without LoRA."""
        if folder is not None:
            adapted = PeftModel.from_pretrained(self.net, folder, is_trainable=True)
        elif training.lora is None:
            return None
        else:
            lora = training.lora
            config = LoraConfig(
                r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, use_rslora=lora.rslora,
                target_modules=linear_layers(self.net, training), bias="none")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(lora.seed)
                adapted = get_peft_model(self.net, config)
        config = adapted.peft_config["default"]
        is_folder = os.path.isdir(self.source)
        config.base_model_name_or_path = os.path.abspath(self.source) if is_folder else self.source
        if not isinstance(config.target_modules, str):
            config.target_modules = sorted(config.target_modules)  # a set is saved in another order each time
        return adapted

    def tensors(self):
        """The weights by name, as they lie in memory; those of a sharded model are DTensors."""
        return self.net.state_dict(keep_vars=True) if self.sharding is None else self.sharding.tensors

    def held(self, tensor):
        """What this process holds of a weight, and the index of its first element in the whole: of several processes,
        the first one has what is not sharded."""
        return (tensor, 0) if self.sharding is None else self.sharding.held(tensor)

    def part(self, whole, weight):
        """This process's part of a whole tensor that belongs to a weight."""
        return whole if self.sharding is None else self.sharding.part(whole, weight)

    def trained(self):
        """Names and parameters that are trained."""
        return [(name, it) for name, it in self.net.named_parameters() if it.requires_grad]

    def has_frozen_vision(self):
        """Whether features of a video stay the same in training."""
        part = parts(self.net)
        return all(part[name] == "language_model" for name, _ in self.trained())


def complete(processor, config):
    """Gives the processor of an older LLaVA checkpoint, which has no `processor_config.json`, what decides how many tokens
    a picture takes."""
    vision = getattr(config, "vision_config", None)
    if vision is None or getattr(processor, "patch_size", 0) is not None:
        return
    processor.patch_size = vision.patch_size
    processor.vision_feature_select_strategy = config.vision_feature_select_strategy
    processor.num_additional_image_tokens = int(vision.model_type == "clip_vision_model")  # its class token


def resolve(model):
    """The base checkpoint of `model`, and the folder of its adapter or None."""
    file = os.path.join(model, ADAPTER)
    if not os.path.exists(file):
        return model, None
    if not os.path.exists(os.path.join(model, "adapter_model.safetensors")):
        raise ValueError(f"{model} has no adapter_model.safetensors")
    base = PeftConfig.from_pretrained(model).base_model_name_or_path
    if not base:
        raise ValueError(f"{file} names no base (base_model_name_or_path)")
    beside = os.path.join(model, base)
    return (beside if os.path.isdir(beside) else base), model


def choose_device(name, processes=1, rank=0):
    """A device by its setting. Of several plugins on a machine (`isr run --processes`), each takes GPUs of its own, and of a
    plugin's processes each takes one of them."""
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda" if name == "auto" else name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise ValueError(f"device is {name}, but torch finds no CUDA device; set device = \"cpu\"")
    first, count = device.index, torch.cuda.device_count()
    if first is None:
        first = int(os.environ.get("LOCAL_RANK", 0)) * processes
        first = first % count if processes == 1 else first
    if processes > 1 and first + processes > count:
        raise ValueError(f"processes is {processes}, which take a GPU each from cuda:{first} on, but torch finds {count}; set "
                         f"processes = {max(count - first, 1)} or less" + (", and device = \"cuda:0\"" if first else ""))
    return torch.device("cuda", first + rank)


def choose_dtype(name, folder, device, remote):
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cpu":
        return torch.float32
    stored = AutoConfig.from_pretrained(folder, **remote).dtype
    return torch.float32 if stored == torch.float32 else torch.bfloat16


def trained_positions(original):
    """`get_rope_index` by the rule that the weights of Qwen2-VL and Qwen2.5-VL were trained with: text continues behind
    the largest position of all three axes (time, rows, columns). From 5.3 on, the forward pass of transformers continues
    behind the larger of rows and columns, but its `generate` behind the largest (huggingface/transformers#45381), so
    that sampled and scored log-probs differ. The policy `torch` of isr-dpo has the same rule."""
    def positions(input_ids, mm_token_type_ids, *args, **settings):
        found, deltas = original(input_ids, mm_token_type_ids, *args, **settings)
        for row, kinds in enumerate(mm_token_type_ids):
            ends = ((kinds[:-1] != 0) & (kinds[1:] == 0)).nonzero()[:, 0] + 1
            for end in ends.tolist():
                behind = found[:, row, :end].max() + 1
                found[:, row, end:] += behind - found[0, row, end]
            deltas[row] = found[:, row].max() + 1 - kinds.numel()
        return found, deltas

    return positions


def parts(net):
    """The part of each parameter, by name: `language_model`, `tower` or `projector`."""
    decoder, head = net.get_decoder(), net.get_output_embeddings()
    towers = [net.get_encoder(modality="image"), net.get_encoder(modality="video")]
    inner = getattr(net, "model", net)
    towers += [getattr(inner, name) for name in ("video_tower", "image_tower") if hasattr(inner, name)]
    owners = [("tower", it) for it in towers if it is not net and it is not inner]
    owners += [("language_model", it) for it in (decoder, head) if it is not None and it is not inner]
    if decoder is inner or not any(part == "tower" for part, _ in owners):
        raise ValueError(f"{type(net).__name__} does not tell its language model and its vision tower apart")
    owned = {id(parameter): part for part, module in owners for parameter in module.parameters()}
    return {name: owned.get(id(parameter), "projector") for name, parameter in net.named_parameters()}


def trained_parameters(net, training):
    found = parts(net)
    return [it for name, it in net.named_parameters() if getattr(training, found[name])]


def linear_layers(net, training):
    """Dotted paths of the layers that get an adapter. A ValueError where the names match none."""
    found, head, paths = parts(net), net.get_output_embeddings(), []
    for path, module in net.named_modules():
        if not isinstance(module, torch.nn.Linear) or module is head:
            continue
        named = training.lora.targets == ALL_LINEAR or any(
            path == target or path.endswith(f".{target}") for target in training.lora.targets)
        if named and getattr(training, found[f"{path}.weight"]):
            paths.append(path)
    if not paths:
        raise ValueError(f"training.lora.targets {json.dumps(training.lora.targets)} match no linear layer of the trained "
                         "parts")
    return paths
