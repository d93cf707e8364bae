"""The five recurrences, and inputs that show faults: peaked, of different sizes, decays of exactly 0 among them."""

import torch
from torch.nn.functional import normalize

from attnkit import recurrence

GATES = {
    recurrence.Linear: (),
    recurrence.Decay: ("decay",),
    recurrence.GatedLinear: ("decay",),
    recurrence.Delta: ("beta",),
    recurrence.GatedDelta: ("decay", "beta"),
}
KINDS = list(GATES)
CORRECTING = (recurrence.Delta, recurrence.GatedDelta)


def draw(kind, length=13, *, batch=(2,), heads=6, kv_heads=3, dtype=torch.float64, seed=0):
    """What `kind` is called with: query (*batch, heads, length, 4), value (..., length, 5), and its gates.

    Query and key are three times a normal draw; keys of the delta rules have length 1, as those rules need.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    def gate(*shape):
        values = torch.rand(*batch, *shape, generator=generator, dtype=torch.float64)
        return values.masked_fill(values < 0.2, 0.0)

    key = normal(kv_heads, length, 4)
    drawn = {
        "query": 3 * normal(heads, length, 4),
        "key": normalize(key, dim=-1) if kind in CORRECTING else 3 * key,
        "value": normal(kv_heads, length, 5),
    }
    if "decay" in GATES[kind]:
        channels = (4,) if kind is recurrence.GatedLinear else ()
        drawn["decay"] = gate(kv_heads, length, *channels)
    if "beta" in GATES[kind]:
        drawn["beta"] = gate(kv_heads, length)
    return {name: tensor.to(dtype) for name, tensor in drawn.items()}


def some_state(kind, given, seed=1):
    """A state that fits the inputs `given`, of positive numbers, so that Linear may divide by it."""
    _, state = kind().run(**tokens(given, slice(0, 0)))
    generator = torch.Generator().manual_seed(seed)
    return type(state)(*(torch.rand(x.shape, generator=generator, dtype=x.dtype) for x in state))


def tokens(given, which):
    """The inputs of some tokens alone."""
    axes = {
        name: -1 if name == "beta" or tensor.dim() < given["key"].dim() else -2
        for name, tensor in given.items()
    }
    return {
        name: tensor[..., which] if axes[name] == -1 else tensor[..., which, :]
        for name, tensor in given.items()
    }


def with_gradients(kind, given, *, order, state=None, chunk_tokens=4, keep=None):
    """Context, state, and the gradients to everything given, by name."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in given.items()}
    if state is not None:
        state = type(state)(*(part.detach().clone().requires_grad_() for part in state))
    context, after = kind(chunk_tokens=chunk_tokens).run(**leaves, order=order, state=state, keep=keep)
    generator = torch.Generator().manual_seed(2)
    probes = [torch.randn(x.shape, generator=generator).to(x.dtype) for x in (context, *after)]
    sum((x * probe).sum() for x, probe in zip((context, *after), probes, strict=True)).backward()
    found = {"context": context, **{f"state.{name}": x for name, x in after._asdict().items()}}
    inputs = leaves if state is None else leaves | {f"state.{name}": x for name, x in state._asdict().items()}
    for name, leaf in inputs.items():
        found[f"gradient of {name}"] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    return {name: x.detach() for name, x in found.items()}
