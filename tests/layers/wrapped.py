"""One training step and some decoding of a layer that is wrapped by DDP or FSDP, in a process of its own.

    python tests/layers/wrapped.py ddp|fsdp FILE

FILE is where the one process meets itself.
"""

import sys

import torch
import torch.distributed as dist
from torch import nn

from attnkit.layers.attention import Attention


def wrap(layer: nn.Module, how: str) -> nn.Module:
    """The layer, wrapped."""
    if how == "ddp":
        return nn.parallel.DistributedDataParallel(layer)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    return fully_shard(layer, mesh=init_device_mesh("cpu", (1,)))


def step(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The output of one training step, and the numbers after it."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    output = module(x)
    output.square().sum().backward()
    optimizer.step()
    numbers = [getattr(p, "full_tensor", lambda p=p: p)().detach() for p in module.parameters()]
    return [output.detach(), *numbers]


def main(how: str, place: str) -> None:
    """Compare with the layer that is not wrapped."""
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=0, world_size=1)
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        made.append(Attention(24, 6, mechanism="sink", num_kv_heads=3, bias=True).double())
    plain, wrapped = made[0], wrap(made[1], how)
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    for one, two in zip(step(plain, x), step(wrapped, x), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12)
    cache = plain.new_cache()
    with torch.no_grad():
        outputs = [wrapped(token, cache=cache) for token in x.split(1, 1)]
        torch.testing.assert_close(torch.cat(outputs, 1), plain(x), rtol=0, atol=1e-9)
    dist.destroy_process_group()
    print("same")


if __name__ == "__main__":
    main(*sys.argv[1:])
