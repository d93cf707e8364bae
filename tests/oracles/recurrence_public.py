"""Compares the recurrent mechanisms with public code: transformers, and the plain PyTorch files of fla-core.

    pip install --no-deps transformers einops fla-core
    python -m tests.oracles.recurrence_public

It prints the largest difference of context and state of each, as a share of the largest number, and fails above 1e-6:
that code computes in float32. Chunks of public code subtract sums of logarithms from each other, so they may also err
by the rounding of such a sum. The files of fla-core are loaded one by one, since the package itself needs Triton.
"""

import importlib.util
from pathlib import Path

import torch
from torch.nn.functional import logsigmoid, normalize, softplus

from attnkit import recurrence
from attnkit.catalog import find
from attnkit.mechanism import Learned, projections, sizes_of

LENGTH, BUDGET = 150, 1e-6


def drawn(name, *, heads=3, seed=0):
    """Tensors for `name` by name, in float32: peaked, of 2 samples and 150 tokens, as many kv heads as heads."""
    generator = torch.Generator().manual_seed(seed)
    widths = {"query": 8, "key": 8, "value": 6, "gate": 8}
    tensors = {}
    for part in projections(find(name).parts):
        raw = torch.randn(2, heads, LENGTH, widths.get(part.name, 1), generator=generator)
        tensors[part.name] = part.then(raw if part.name == "value" else 3 * raw)
    for part in find(name).parts:
        if isinstance(part, Learned):
            tensors[part.name] = part.start((heads,)) + 0.3 * torch.randn(heads, generator=generator)
    return tensors


def ours(name, tensors, state=None, **options):
    """Context and state, of tensors in float32 that are computed with in float64."""
    exact = {part: tensor.double() for part, tensor in tensors.items()}
    bound, sizes = find(name).bind(options), sizes_of(exact["query"], exact["key"])
    return bound.advanced(bound.prepared(exact, sizes, q_start=0), sizes, state=state, mask=None)


def plain(kind):
    """One file of fla-core that needs PyTorch alone."""
    (folder,) = importlib.util.find_spec("fla").submodule_search_locations
    spec = importlib.util.spec_from_file_location(f"fla_{kind}", Path(folder) / "ops" / kind / "naive.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def turned(*tensors):
    """Heads and tokens exchanged: public code has the tokens first."""
    return (tensor.transpose(1, 2) for tensor in tensors)


def logarithms(tensors):
    """The logarithm of the decay, `-exp(A_log) softplus(a + dt_bias)` in the layers of public code."""
    step = tensors["step"][..., 0] + tensors["step_bias"][:, None]
    return -tensors["log_rate"].exp()[:, None] * softplus(step)


def qwen3_next(form="torch_recurrent_gated_delta_rule"):
    """Its recurrent form, from a state."""
    modeling = importlib.import_module("transformers.models.qwen3_next.modeling_qwen3_next")
    t = drawn("gated_delta")
    before = torch.randn(2, 3, 8, 6)
    theirs, after = getattr(modeling, form)(
        *turned(t["query"], t["key"], t["value"]),
        g=logarithms(t).transpose(1, 2),
        beta=t["beta"][..., 0].transpose(1, 2),
        initial_state=before,
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
    found, state = ours("gated_delta", t, recurrence.GatedDeltaState(before.double()))
    return (found, theirs.transpose(1, 2)), (state.memory, after)


def qwen3_next_chunks():
    """Its chunks."""
    return qwen3_next("torch_chunk_gated_delta_rule")


def mamba_2():
    """Its parallel scan, from a state; B is the key, C the query; one group a head."""
    from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

    t = drawn("state_space")
    before = torch.randn(2, 3, 8, 6)
    value, dt, key, query = turned(t["value"], t["step"], t["key"], t["query"])
    theirs, after = mamba2_chunk_scan(
        value,
        dt[..., 0],
        -t["log_rate"].exp(),
        key,
        query,
        chunk_size=32,
        dt_bias=t["step_bias"],
        dt_softplus=True,
        initial_states=before.mT,
        return_final_states=True,
    )
    found, state = ours("state_space", t, recurrence.DecayState(before.double()))
    return (found, theirs.transpose(1, 2)), (state.memory, after.mT)


def fla_retention():
    """Its parallel form."""
    t = drawn("retention")
    return ((ours("retention", t)[0], plain("retention").naive_retention(t["query"], t["key"], t["value"])),)


def fla_gated_linear():
    """Its recurrent form; the gate as in its layer."""
    t = drawn("gated_linear")
    theirs, after = plain("gla").naive_recurrent_gla(
        *turned(t["query"], t["key"], t["value"], logsigmoid(t["gate"]) / 16), output_final_state=True
    )
    found, state = ours("gated_linear", t)
    return (found, theirs.transpose(1, 2)), (state.memory, after)


def fla_delta():
    """Its recurrent form; it takes keys of length 1, and scales by the root of head_dim."""
    t = drawn("delta")
    query, key = (normalize(t[name], dim=-1) for name in ("query", "key"))
    theirs, after = plain("delta_rule").delta_rule_recurrence(query, key, t["value"], t["beta"])
    found, state = ours("delta", t)
    return (found, theirs), (state.memory, after)


def fla_gated_delta():
    """Its recurrent form."""
    t = drawn("gated_delta")
    query, key = (normalize(t[name], dim=-1) for name in ("query", "key"))
    theirs, after = plain("gated_delta_rule").naive_recurrent_gated_delta_rule(
        *turned(query, key, t["value"], t["beta"][..., 0], logarithms(t)), output_final_state=True
    )
    found, state = ours("gated_delta", t)
    return (found, theirs.transpose(1, 2)), (state.memory, after)


def rounding(name):
    """What a sum of all logarithms of a head is off by in float32."""
    return logarithms(drawn(name)).sum(-1).abs().max().item() * torch.finfo(torch.float32).eps


def main():
    torch.manual_seed(0)
    budgets = dict.fromkeys((qwen3_next, fla_retention, fla_gated_linear, fla_delta, fla_gated_delta), BUDGET)
    budgets |= {
        qwen3_next_chunks: BUDGET + rounding("gated_delta"),
        mamba_2: BUDGET + rounding("state_space"),
    }
    for compare, budget in budgets.items():
        shares = [(a - b).abs().max().item() / a.abs().max().item() for a, b in compare()]
        print(f"{compare.__name__:18}" + "  ".join(f"{share:.1e}" for share in shares) + f"  of {budget:.1e}")
        assert all(share <= budget for share in shares), compare.__name__


if __name__ == "__main__":
    main()
