"""A model that several processes share: FSDP2 (`torch.distributed.fsdp.fully_shard`) on the language model, layer by layer,
dim 0 of each weight divided over the processes.

The vision tower and the projector are whole in each process, so that one may take them from its cache, or have no video,
while others run them: operations that all take part in are then those of the language model alone, the same number in
each forward pass. Where they are trained, their gradients are added up before a step."""

import datetime

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from .model import parts

HOST = "127.0.0.1"


def open_store(count, timeout_s):
    """The store where the processes meet, on a free port of this machine."""
    return dist.TCPStore(HOST, 0, count, is_master=True, timeout=datetime.timedelta(seconds=timeout_s),
                         wait_for_workers=False)


class Sharding:
    """The part of a model that one process of a group holds, and what it does together with the others."""

    def __init__(self, loaded, rank, count, store, timeout_s):
        self.net, self.rank, self.count, self.gathered = loaded.net, rank, count, False
        device, timeout = loaded.device, datetime.timedelta(seconds=timeout_s)
        if isinstance(store, int):
            store = dist.TCPStore(HOST, store, count, is_master=False, timeout=timeout)
        backend = "gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl"
        if device.type == "cuda":
            torch.cuda.set_device(device)
            torch.cuda.init()  # else the mesh would choose a device, by LOCAL_RANK
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)
        self.mesh = init_device_mesh(device.type, (count,))
        part = parts(self.net)
        vision = {name: it for name, it in self.net.named_parameters() if part[name] != "language_model"}
        for parameter in vision.values():
            parameter.data = parameter.data.to(device)
        if any(it.requires_grad for it in vision.values()):
            # The backward pass then goes through all layers, whether or not a prompt has a video.
            self.net.enable_input_require_grads()
        # Weights are gathered and used in their own dtype, as in one process; gradients are added up in float32.
        settings = {"mesh": self.mesh, "mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)}
        for layer in getattr(self.net.get_decoder(), "layers", []):
            fully_shard(layer, **settings)
        fully_shard(self.net, ignored_params=set(vision.values()), **settings)
        # FSDP gives modules a class of its own; what is saved names the model's.
        sharded, plain = type(self.net), type(self.net).__mro__[2]
        sharded.__name__, sharded.__module__ = plain.__name__, plain.__module__
        self.modules = [it for it in self.net.modules() if isinstance(it, FSDPModule)]
        for module in self.modules:
            module.set_force_sum_reduction_for_comms(True)
            module.set_gradient_divide_factor(1.0)  # the sum over the processes, not the mean
        self.tensors = self.net.state_dict(keep_vars=True)

    def leave(self):
        """Ends the group, once the other processes have ended."""
        dist.destroy_process_group()

    def held(self, tensor):
        """What this process holds of a weight for all of them, and the index of its first element in the whole."""
        if not isinstance(tensor, DTensor):
            return (tensor if self.rank == 0 else tensor.new_empty(0)), 0
        row = tensor.shape[1:].numel()
        return local(tensor), min(self.rank * self.rows(tensor), tensor.shape[0]) * row

    def rows(self, tensor):
        """Rows of a weight in the part of each process but the last ones."""
        return -(-tensor.shape[0] // self.count)

    def part(self, whole, weight):
        """This process's part of a whole tensor that belongs to a weight."""
        if not isinstance(weight, DTensor):
            return whole
        rows = self.rows(weight)
        return whole[self.rank * rows:(self.rank + 1) * rows]

    def whole(self, own, weight):
        """The whole of a tensor of which each process has its part. All processes call it together."""
        if not isinstance(weight, DTensor):
            return own
        divided = DTensor.from_local(own, self.mesh, [Shard(0)], run_check=False, shape=weight.shape, stride=weight.stride())
        return divided.full_tensor()

    @torch.no_grad()
    def collected(self, tensors):
        """Whole copies on the host by name, in the first process; nothing in the others. `tensors` gives names with
        what this process has of a tensor and the weight that it belongs to. All processes call it together."""
        found, copies = {}, {}
        for name, own, weight in tensors:
            if id(own) not in copies:  # tied weights have several names
                whole = self.whole(own, weight)
                copies[id(own)] = (own, whole.detach().to("cpu", copy=True) if self.rank == 0 else None)
            found[name] = copies[id(own)][1]
        return found if self.rank == 0 else {}

    def gather(self):
        """Keeps the whole weights on the device, so that forward passes without gradients need no other process."""
        if not self.gathered:
            for module in self.modules:
                module.unshard()
                module.set_reshard_after_forward(False, recurse=False)
        self.gathered = True

    def release(self):
        """Drops whole weights from the device, which are stale once a part has changed."""
        for module in self.modules:
            if self.gathered:
                module.set_reshard_after_forward(module is not self.net, recurse=False)
            module.reshard()
        self.gathered = False

    def add_up(self, weights, masters):
        """Adds up gradients of weights that are not sharded over the processes; one without gradient counts as zero,
        unless it has none anywhere."""
        own = [masters[name] for name, weight in weights.items() if not isinstance(weight, DTensor)]
        if not own:
            return
        known = torch.tensor([float(it.grad is not None) for it in own])
        dist.all_reduce(known)
        for master, count in zip(own, known.tolist()):
            if count:
                master.grad = torch.zeros_like(master) if master.grad is None else master.grad
                dist.all_reduce(master.grad)

    def norm(self, weights, masters):
        """The L2 norm of all gradients, of which each process has its part."""
        counted = [masters[name].grad for name, weight in weights.items()
                   if masters[name].grad is not None and (self.rank == 0 or isinstance(weight, DTensor))]
        square = torch.nn.utils.get_total_norm(counted).double().cpu().square()  # 0 of no gradient
        dist.all_reduce(square)
        return square.sqrt().item()


class Lockstep:
    """Keeps forward passes of a sharded model in step: who has done its work takes part in those of the others."""

    def __init__(self, net, spare):
        self.spare, self.working = spare, False
        net.register_forward_pre_hook(self.before, prepend=True)

    def before(self, *_):
        if self.working:
            self.any_works(True)

    def any_works(self, works):
        count = torch.tensor(int(works))
        dist.all_reduce(count)
        return count.item() > 0

    def run(self, work):
        """What `work` returns; `spare` is a forward pass of no consequence."""
        self.working = True
        try:
            made = work()
        finally:
            self.working = False
        while self.any_works(False):
            self.spare()
        return made


def local(tensor):
    """What this process has of a weight, in memory that is the weight's own."""
    if not isinstance(tensor, DTensor):
        return tensor
    with torch.no_grad():
        return tensor.to_local()
