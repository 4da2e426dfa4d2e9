"""What is computed from a video and does not change: pixel values, and features of a frozen tower."""

import copy
import json
from collections import OrderedDict
from collections.abc import Mapping

import torch
from transformers.utils import ModelOutput

# What models give beside the features, and do not use themselves.
SURPLUS = ("last_hidden_state", "hidden_states", "attentions")


class ByteCache:
    """The least recently used values go first, where their tensors exceed a number of bytes."""

    def __init__(self, limit: int):
        self.limit, self.held, self.entries = limit, 0, OrderedDict()

    def get(self, key, make):
        """The value of a key, computed where it is not there."""
        if key in self.entries:
            self.entries.move_to_end(key)
            return self.entries[key][0]
        value = make()
        size = size_of(value)
        if size <= self.limit:
            self.entries[key] = (value, size)
            self.held += size
        while self.held > self.limit:
            self.held -= self.entries.popitem(last=False)[1][1]
        return value

    def clear(self):
        self.entries.clear()
        self.held = 0


def size_of(value) -> int:
    """The bytes of all tensors in a value."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        value = list(value.values())
    return sum(size_of(it) for it in value) if isinstance(value, (list, tuple)) else 0


def video_key(video):
    """What the pixel values and features of a video depend on."""
    return (video.key, tuple(video.shape), tuple(video.timestamps), video.duration)


class CachedProcessor:
    """An image or video processor that computes the pixel values of the same videos once. `subject` names those of the
    next call, or is None for a call that is not kept."""

    def __init__(self, inner, cache: ByteCache):
        self.inner, self.cache, self.subject = inner, cache, None

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __call__(self, media, **settings):
        if self.subject is None:
            return self.inner(media, **settings)
        plain = {name: value for name, value in settings.items() if name != "video_metadata"}
        key = ("pixels", type(self.inner).__name__, self.subject, json.dumps(plain, sort_keys=True, default=str))
        kept = self.cache.get(key, lambda: self.inner(media, **settings))
        # Processors take entries out, and pad a video's list of times in place.
        own = copy.copy(kept)
        own.data = {name: copy.deepcopy(value) if name == "video_metadata" else value for name, value in kept.items()}
        return own


class CachedFeatures:
    """Features of the videos of a prompt, computed once: replaces `get_image_features` and `get_video_features` of a
    model whose tower and projector are frozen. `subject` names the videos of the next forward pass, or is None."""

    METHODS = ("get_image_features", "get_video_features")

    def __init__(self, model, cache: ByteCache):
        self.cache, self.subject, self.inside = cache, None, False
        for name in self.METHODS:
            original = getattr(model, name, None)
            if original is not None:
                setattr(model, name, self.kept(name, original))

    def kept(self, name, original):
        def features(*args, **settings):
            if self.subject is None or self.inside:
                with torch.no_grad():
                    return original(*args, **settings)
            # Models write into what they get: a shallow copy keeps ours as it was.
            return copy.copy(self.cache.get((name, self.subject), lambda: self.compute(original, args, settings)))

        return features

    def compute(self, original, args, settings):
        self.inside = True
        try:
            with torch.no_grad():
                made = original(*args, **settings)
        finally:
            self.inside = False
        if isinstance(made, ModelOutput):
            made = type(made)(**{name: value for name, value in made.items() if name not in SURPLUS})
        return made
