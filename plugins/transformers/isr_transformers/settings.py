"""Settings of the policy: defaults, ranges, and the schema by which isr checks a config. Help texts are users'
documentation; keys of `training` mean what they mean for the policy `torch`."""

from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Dict, List, Optional, Union

ALL_LINEAR = "all-linear"


def setting(default, help, **rules):
    """A field with its help text and the keywords of its schema."""
    made = {"default_factory": default} if callable(default) else {"default": default}
    return field(**made, metadata={"help": help, "rules": rules})


@dataclass
class Lora:
    """LoRA (arXiv 2106.09685) by PEFT: low-rank adapters on the linear layers of the trained parts. Base weights stay
    frozen, and a checkpoint is the adapter alone, in PEFT's format."""
    rank: int = setting(16, "LoRA rank. Default 16.", type="integer", minimum=1, maximum=65536)
    alpha: float = setting(
        32.0, "LoRA alpha: an adapter's output is scaled by alpha / rank. Default 32.", type="number", exclusiveMinimum=0)
    dropout: float = setting(
        0.0, "Dropout probability of an adapter's inputs in training, in [0, 1). Default 0.",
        type="number", minimum=0, exclusiveMaximum=1)
    rslora: bool = setting(
        False, "rsLoRA: scale by alpha / sqrt(rank) instead (arXiv 2312.03732). Default false.", type="boolean")
    targets: Union[str, List[str]] = setting(
        ALL_LINEAR,
        "Target modules: names of linear layers (`[\"q_proj\", \"v_proj\"]`), or `\"all-linear\"`: every linear layer of "
        "the trained parts except the output layer. Default `\"all-linear\"`.",
        anyOf=[{"const": ALL_LINEAR}, {"type": "array", "items": {"type": "string"}, "minItems": 1}])
    seed: int = setting(0, "Seed of the initial values. Default 0.", type="integer", minimum=0)


@dataclass
class Training:
    """Settings of training: trained parts, memory, optimiser."""
    language_model: bool = setting(True, "Train the language model. Default true.", type="boolean")
    projector: bool = setting(
        False, "Train what is neither the language model nor the vision tower: projectors, connectors. Default false.",
        type="boolean")
    tower: bool = setting(
        False, "Train the vision tower, with Qwen-VL's and GLM-V's mergers, which are part of it. Default false.",
        type="boolean")
    micro_batch: int = setting(
        8, "Maximum number of examples in a micro-batch, for each of several processes; gradients accumulate over the "
        "micro-batches of a step. Default 8.", type="integer", minimum=1)
    gradient_checkpointing: bool = setting(
        False, "Gradient checkpointing: keep only the layers' inputs between forward and backward pass and recompute the "
        "rest. The same gradients with far less memory, for a third more time. Default false.", type="boolean")
    lora: Optional[Lora] = setting(None, Lora.__doc__.replace("\n    ", " ") + " Default: off.")
    betas: List[float] = setting(
        lambda: [0.9, 0.999], "AdamW: decay rates of the first and second moment. Default [0.9, 0.999].",
        type="array", items={"type": "number", "minimum": 0, "exclusiveMaximum": 1}, minItems=2, maxItems=2)
    epsilon: float = setting(1e-8, "AdamW: epsilon. Default 1e-8.", type="number", exclusiveMinimum=0)
    weight_decay: float = setting(0.0, "AdamW: decoupled weight decay. Default 0.", type="number", minimum=0)


@dataclass
class Settings:
    """Settings of the policy."""
    model: str = setting(
        "", "Checkpoint folder, relative to the current directory, or hub name; or the folder of a PEFT adapter that names "
        "its base, which is then trained further.", type="string", minLength=1)
    device: str = setting(
        "auto", "Device: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:N`. Of several processes on a machine, `auto` "
        "and `cuda` give each a GPU of its own. Default `auto`.", type="string")
    dtype: str = setting(
        "auto", "Dtype of weights and activations: `float32`, `bfloat16` or `auto`, which on a GPU is that of the "
        "checkpoint (bfloat16 for float16), on a CPU `float32`. Default `auto`.",
        enum=["auto", "float32", "bfloat16"])
    attention: str = setting(
        "auto", "Attention kernels, transformers' `attn_implementation`: `sdpa`, `eager`, `flash_attention_2`, ..., or "
        "`auto` for transformers' choice. Default `auto`.", type="string")
    batch: int = setting(
        16, "Answers that are generated together. On a CPU the answers of one request alone, so that results do not depend "
        "on what else is asked. Default 16.", type="integer", minimum=1)
    cache_mb: int = setting(
        2048, "Size of the cache of videos in MiB: pixel values, and features of a frozen vision tower, so that a "
        "video is computed once for all prompts. Results do not depend on it. Default 2048.",
        type="integer", minimum=0)
    threads: int = setting(
        0, "Number of CPU threads for one operation; 0 leaves the choice to torch. Default 0.", type="integer", minimum=0)
    processes: int = setting(
        1, "Processes that share the model, each on a device of its own: its language model is sharded over them (FSDP2), "
        "with gradients and the optimiser's state, and each takes its part of a batch. Those behind the first take the GPUs "
        "behind its own. Default 1.", type="integer", minimum=1)
    gather: bool = setting(
        True, "With several processes: gather the whole weights on each device while answers are sampled and scored, so that "
        "the processes work on their own. False gathers layer by layer, for a model that does not fit one device, and is "
        "slower. Default true.", type="boolean")
    collective_timeout_s: float = setting(
        600.0, "With several processes: longest time in seconds that one waits for the others in an operation that all take "
        "part in, before all of them end with an error. One that has died ends the others at once. Default 600.",
        type="number", exclusiveMinimum=0)
    trust_remote_code: bool = setting(
        False, "Run the Python code that a checkpoint brings along. It has the rights of the user. Default false.",
        type="boolean")
    reasoning: Union[str, Dict[str, str]] = setting(
        "auto", "Reasoning that the model writes before its answers: `auto` for the markers that its chat template or tokenizer "
        "names, such as `<think>`; `off` for none, so that all it writes is its answer; or markers, `{ open = \"<think>\", "
        "close = \"</think>\" }`. Reasoning is sampled and trained on with the answer; judges, lengths, scorers and exports "
        "see the answer alone. Default `auto`.",
        anyOf=[{"enum": ["auto", "off"]},
               {"type": "object", "properties": {name: {"type": "string", "minLength": 1} for name in ("open", "close")},
                "required": ["open", "close"], "additionalProperties": False}])
    training: Training = setting(lambda: Training(), "Settings of training.")


def read(cls, table: Dict[str, Any], path=""):
    """A dataclass of settings from a config's table. A ValueError names a key that is unknown or out of range."""
    known = {it.name: it for it in fields(cls)}
    for key in table:
        if key not in known:
            raise ValueError(f"there is no setting {path}{key}; there are {', '.join(known)}")
    values = {key: _value(known[key], value, path) for key, value in table.items()}
    return _checked(cls(**values), path)


def _value(it, value, path):
    nested = {"lora": Lora, "training": Training}.get(it.name)
    if nested is None or value is None or is_dataclass(value):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"{path}{it.name} is {value!r}, not a table")
    return read(nested, value, f"{path}{it.name}.")


def _checked(made, path):
    for it in fields(made):
        value, rules = getattr(made, it.name), it.metadata["rules"]
        numbers = value if isinstance(value, (list, tuple)) else [value]
        bounds = {**rules, **rules.get("items", {})}
        for number in numbers:
            if isinstance(number, (int, float)) and not _within(number, bounds):
                raise ValueError(f"{path}{it.name} is {value}; {it.metadata['help']}")
        if "enum" in rules and value not in rules["enum"]:
            raise ValueError(f"{path}{it.name} is {value!r}, not one of {', '.join(rules['enum'])}")
    if isinstance(made, Lora) and (made.targets == [] or isinstance(made.targets, str) and made.targets != ALL_LINEAR):
        raise ValueError(f"{path}targets is {made.targets!r}; name layers in a list, or \"{ALL_LINEAR}\"")
    if isinstance(made, Training) and not (made.language_model or made.projector or made.tower):
        raise ValueError("training trains nothing: set language_model, projector or tower")
    if isinstance(made, Settings) and made.reasoning not in ("auto", "off") and not _are_markers(made.reasoning):
        raise ValueError(f"{path}reasoning is {made.reasoning!r}, not `auto`, `off` or two different texts `open` and `close`")
    if isinstance(made, Settings) and not made.model:
        raise ValueError("model is missing: a checkpoint folder or a hub name")
    return made


def _are_markers(value):
    return (isinstance(value, dict) and set(value) == {"open", "close"} and value["open"] != value["close"]
            and all(isinstance(it, str) and it.strip() for it in value.values()))


def _within(number, rules):
    return (number >= rules.get("minimum", number) and number <= rules.get("maximum", number)
            and number > rules.get("exclusiveMinimum", float("-inf"))
            and number < rules.get("exclusiveMaximum", float("inf")))


def schema(cls=Settings) -> Dict[str, Any]:
    """The JSON schema of a dataclass of settings."""
    properties = {}
    for it in fields(cls):
        nested = {"lora": Lora, "training": Training}.get(it.name)
        rules = schema(nested) if nested else dict(it.metadata["rules"])
        default = it.default if it.default is not MISSING else it.default_factory()
        if not nested and default != "":
            rules["default"] = default
        properties[it.name] = {**rules, "description": it.metadata["help"]}
    made = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**made, "required": ["model"]} if cls is Settings else made
