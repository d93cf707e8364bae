"""Layers of every mechanism of the catalogue, with peaked inputs, and what they give when fed in chunks."""

import torch

from attnkit.catalog import all_mechanisms, find
from attnkit.layers.attention import Attention
from attnkit.mechanism import Sizes, learned, projections

LENGTH = 7  # what the examples are made for
CHUNKS = ([1] * LENGTH, [3, 1, 3], [LENGTH])


def every_example():
    """A label, a name and options for each example of each mechanism."""
    for name, mechanism in all_mechanisms().items():
        for number, options in enumerate(mechanism.examples):
            yield f"{name}-{number}", name, options


def decodes(name, options):
    """Whether nothing reads the future, so that a cache makes sense."""
    bound = find(name).bind(options)
    sizes = Sizes(6, 3, 4, 24)
    tensors = {part.name: part.start(part.sizes(sizes, bound.options)) for part in learned(find(name).parts)}
    return bound.mechanism.settles and bound.is_causal(tensors, sizes)


def kv_heads(name):
    """3 for a mechanism that lets its layer choose."""
    free = any(part.heads == "num_kv_heads" for part in projections(find(name).parts))
    return {"num_kv_heads": 3} if free else {}


def layer_of(name, options=None, **more):
    """A layer in float64 whose learned numbers are moved from where they start."""
    torch.manual_seed(1)
    layer = Attention(24, 6, mechanism=name, **kv_heads(name), **more, **(options or {})).double()
    with torch.no_grad():
        for parameter in layer.learned_tensors.values():
            parameter += 0.5 * torch.randn_like(parameter)
    return layer.eval()


def tokens(batch=2, length=LENGTH, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(batch, length, 24, generator=generator, dtype=torch.float64)


def fed(layer, x, cache, lengths, mask=None):
    """The outputs of `x`, fed in chunks of these lengths."""
    outputs, start = [], 0
    for length in lengths:
        stop = start + length
        seen = None if mask is None else mask[:, :stop]
        outputs.append(layer(x[:, start:stop], cache=cache, mask=seen))
        start = stop
    return torch.cat(outputs, 1)
