"""Where tests find the package, isr's module for plugins and torchvision; in the processes that they start, too."""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
# `cargo xtask test --python` puts torchvision beside the packages of its environment, where other tests do not see it.
BESIDE = Path(sys.prefix) / "torchvision"
sys.path[:0] = [str(HERE), str(HERE.parent)]
sys.path += [str(ROOT / "plugins" / "python"), str(BESIDE)]

import torch

torch.set_num_threads(1)
try:
    import torchvision
except RuntimeError:
    # Its compiled operators need CUDA's libraries, which that environment leaves out. The transforms that video
    # processors use are Python; the import fails on the first operator alone, which is declared here.
    OPERATORS = torch.library.Library("torchvision", "DEF")
    OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    import torchvision
