"""Rules of the family "score" on the fast backends, with gradients, against the eager rule in float64."""

from dataclasses import replace

import pytest
import torch

from attnkit.catalog import find
from attnkit.laws import Trial
from attnkit.mechanism import sizes_of
from attnkit.mechanism.signatures import picked, taken

PREPARED = ["multiplicative", "cosine", "gaussian", "qk_norm", "rotary"]
EVERY = [*PREPARED, "unscaled", "alibi", "t5_relative", "forgetting", "softcap"]
CASES = [
    (name, backend)
    for name in EVERY
    for backend in ("sdpa", "tiled")
    if (name, backend) != ("softcap", "sdpa")
]


def run(name, backend, leaves):
    """The context on one backend, after what is prepared token by token."""
    mechanism, sizes = find(name), sizes_of(leaves["query"], leaves["key"])
    bound = mechanism.bind(mechanism.examples[0])
    tensors = bound.prepared(leaves, sizes, q_start=30)
    rule = mechanism.rule(**picked(taken(mechanism.rule), vars(sizes) | dict(bound.options) | tensors))
    rule = replace(rule, positions=None)  # they have acted when the tensors were prepared
    return rule(tensors["query"], tensors["key"], tensors["value"], q_start=30, backend=backend)


@pytest.mark.parametrize(("name", "backend"), CASES)
def test_a_backend_agrees_with_eager(name, backend):
    trial = Trial.of(find(name), find(name).examples[0], q_len=70, kv_len=100)
    probe = torch.randn(2, 6, 70, 8, dtype=torch.float64)
    found = []
    for where in ("eager", backend):
        leaves = {n: t.clone().requires_grad_() for n, t in trial.tensors.items()}
        context = run(name, where, leaves)
        (context * probe).sum().backward()
        found.append({"context": context.detach()} | {n: leaf.grad for n, leaf in leaves.items()})
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-8)
