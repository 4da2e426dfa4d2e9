"""Checkpoints: the model as transformers or PEFT writes it, and the optimiser's state beside it."""

import os

import torch
from peft import PeftConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from .sharding import local

MODEL, TRAINER_STATE = "model", "trainer_state"
OPTIMIZER = "optimizer.safetensors"
ADAPTER = "adapter_model.safetensors"


def save(folder, what, loaded, trainer):
    """Writes a checkpoint: `save_pretrained` of the model and its processor, or of the adapter alone."""
    write(folder, loaded, *collect(what, loaded, trainer))


def collect(what, loaded, trainer):
    """What `write` takes: the weights of a model that several processes share, whole and on the host (None for another), and
    the optimiser's state. All processes call it together, and the first one gets it."""
    gathered = None
    if loaded.sharding is not None:
        own = all_names(loaded, dict(loaded.trained() if loaded.adapted is not None else loaded.tensors()))
        gathered = loaded.sharding.collected((name, local(it), it) for name, it in own.items())
    return gathered, trainer.state() if what == TRAINER_STATE else None


def write(folder, loaded, gathered, state):
    if loaded.adapted is not None:
        # "auto" would ask the hub whether the vocabulary has changed.
        loaded.adapted.save_pretrained(folder, save_embedding_layers=False, state_dict=gathered)
    else:
        loaded.net.save_pretrained(folder, state_dict=gathered)
        loaded.processor.save_pretrained(folder)
    if state is not None:
        save_file({name: it.cpu() for name, it in state.items()}, os.path.join(folder, OPTIMIZER))


def load(folder, what, loaded, trainer):
    """Loads what `save` wrote, in place. Everything is read and compared before anything is changed."""
    take(*read(folder, what, loaded, trainer), loaded, trainer)


def read(folder, what, loaded, trainer):
    """A checkpoint's weights and optimiser's state, compared with the model."""
    own, found = weights(loaded), read_weights(folder, loaded)
    check(folder, {name: it.shape for name, it in own.items()}, {name: it.shape for name, it in found.items()})
    return found, read_state(folder, trainer) if what == TRAINER_STATE else None


@torch.no_grad()
def take(found, state, loaded, trainer):
    """Takes over what `read` gave."""
    for name, weight in weights(loaded).items():
        local(weight).copy_(loaded.part(found[name], weight))
    trainer.forget()
    if state:
        trainer.restore(state)


def weights(loaded):
    """The weights of a checkpoint by name, as they lie in memory."""
    if loaded.adapted is None:
        return loaded.tensors()
    own = None if loaded.sharding is None else all_names(loaded, loaded.tensors())
    return get_peft_model_state_dict(loaded.adapted, state_dict=own, save_embedding_layers=False)


def all_names(loaded, tensors):
    """Tensors by the names that they have in PEFT's wrapper, where there is one."""
    prefix = "" if loaded.adapted is None else "base_model.model."
    return {prefix + name: it for name, it in tensors.items()}


def read_weights(folder, loaded):
    if loaded.adapted is None:
        return loaded.read(folder).state_dict()
    file = os.path.join(folder, ADAPTER)
    if not os.path.exists(file):
        raise ValueError(f"{folder} has no {ADAPTER}, so it is no checkpoint of an adapter, which the policy trains")
    scales = [(it.r, it.lora_alpha, it.use_rslora) for it in
              (PeftConfig.from_pretrained(folder), loaded.adapted.peft_config["default"])]
    if scales[0] != scales[1]:
        raise ValueError(f"{folder}: an adapter of (rank, alpha, rslora) {scales[0]}, while the policy's has {scales[1]}")
    return load_file(file)


def read_state(folder, trainer):
    """The optimiser's state, compared with the trained weights."""
    state = load_file(os.path.join(folder, OPTIMIZER))
    shapes = {name: weight.shape for name, weight in trainer.weights.items()}
    for key, tensor in state.items():
        kind, _, name = key.partition(".")
        if name not in shapes or kind != "step" and tensor.shape != shapes[name]:
            raise ValueError(f"{folder}/{OPTIMIZER} has {key} of shape {list(tensor.shape)}, which is not that of a weight "
                             "trained here; are the trained parts others?")
    return state


def check(folder, own, read):
    """A ValueError that names the first tensor in which a checkpoint differs from the model."""
    for name in sorted(own.keys() | read.keys()):
        if own.get(name) != read.get(name):
            told = [list(it[name]) if name in it else "missing" for it in (read, own)]
            raise ValueError(f"{folder}: {name} is {told[0]} in the checkpoint and {told[1]} in the model")
