"""Laws that every mechanism obeys, built in or not; nobody has to state them."""

from typing import Any

import torch

from attnkit import masks
from attnkit.laws.own import TOLERANCE
from attnkit.laws.trial import Trial, check
from attnkit.mechanism import Mechanism, sizes_of


def context_is_a_vector_a_query(mechanism: Mechanism, **options: Any) -> None:
    """The context has a finite vector for each query and head, in the dtype of what it is given."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        trial = Trial.of(mechanism, options, q_len=_q_len(mechanism), dtype=dtype)
        context, query = trial.context, trial.tensors["query"]
        check(context.dtype == dtype, mechanism, f"its context is {context.dtype} for {dtype}")
        check(context.shape[:-1] == query.shape[:-1], mechanism, f"its context is {tuple(context.shape)}")
        check(context.isfinite().all(), mechanism, f"its context is not finite in {dtype}")


def weights_mix_the_values(mechanism: Mechanism, **options: Any) -> None:
    """The context is the weights times the values."""
    trial = Trial.of(mechanism, options, q_len=_q_len(mechanism))
    weights, value = trial.weights, trial.tensors["value"]
    if mechanism.weigh is not None and weights.shape[-1] != value.shape[-2]:
        return
    shared = value.repeat_interleave(weights.shape[-3] // value.shape[-3], -3)
    off = (weights @ shared - trial.context).abs().max().item()
    check(off <= TOLERANCE, mechanism, f"weights times values are {off:.2g} away from the context")


def samples_are_apart(mechanism: Mechanism, **options: Any) -> None:
    """A sample alone has the context that it has beside others."""
    trial = Trial.of(mechanism, options, q_len=_q_len(mechanism))
    tokens = trial.of_tokens("query") | trial.of_tokens("key")
    for sample in range(2):
        alone = trial.map(lambda name, t, s=sample: t[s : s + 1] if name in tokens else t)
        off = (alone.context - trial.context[sample : sample + 1]).abs().max().item()
        check(off <= TOLERANCE, mechanism, f"sample {sample} moves by {off:.2g} with what is beside it")


def gradients_are_right(mechanism: Mechanism, **options: Any) -> None:
    """The gradient of each tensor is finite, and predicts what a small step does."""
    trial = Trial.of(mechanism, options, q_len=_q_len(mechanism))
    probe = torch.randn(trial.context.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    leaves = trial.map(lambda name, tensor: tensor.clone().requires_grad_())
    (leaves.context * probe).sum().backward()
    for name, leaf in leaves.tensors.items():
        check(leaf.grad is not None and leaf.grad.isfinite().all(), mechanism, f"no gradient reaches {name}")
        way = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        ahead, behind = (
            trial.map(lambda n, t, s=step, own=name, w=way: t + s * w if n == own else t).context * probe
            for step in (1e-6, -1e-6)
        )
        measured, told = (ahead - behind).sum().item() / 2e-6, (leaf.grad * way).sum().item()
        off = abs(measured - told)
        check(
            off <= 1e-5 * max(1.0, abs(measured)),
            mechanism,
            f"along {name} the context moves by {measured:.6g}, its gradient says {told:.6g}",
        )


def hidden_keys_do_not_matter(mechanism: Mechanism, **options: Any) -> None:
    """What a call's mask hides may hold anything."""
    if mechanism.recurrence is not None:
        return
    trial, other = (Trial.of(mechanism, options, q_len=_q_len(mechanism), seed=seed) for seed in (0, 1))
    keys, mask = trial.of_tokens("key"), masks.lengths([7, 4])
    context = trial.called(mask)
    changed = trial.map(
        lambda name, t: (
            torch.cat([t[:1], torch.cat([t[1:, :, :4], other.tensors[name][1:, :, 4:]], -2)])
            if name in keys
            else t
        )
    )
    off = (changed.called(mask) - context).abs().max().item()
    check(off <= TOLERANCE, mechanism, f"the context moves by {off:.2g} with keys that a mask hides")
    check((trial.context - context).abs().max() > 0, mechanism, "a mask changes nothing")


def chunks_are_one(mechanism: Mechanism, **options: Any) -> None:
    """Where no query reads ahead, contexts one by one, in chunks, and all at once are the same."""
    trial = Trial.of(mechanism, options)
    bound = mechanism.bind(options)
    sizes = sizes_of(trial.tensors["query"], trial.tensors["key"])
    if mechanism.recurrence is not None or not mechanism.settles or not bound.is_causal(trial.tensors, sizes):
        return
    whole = trial.context
    for lengths in ([1] * 7, [3, 1, 3]):
        stops = torch.tensor(lengths).cumsum(0).tolist()
        parts = [trial.rows(stop - n, stop).context for n, stop in zip(lengths, stops, strict=True)]
        off = (torch.cat(parts, -2) - whole).abs().max().item()
        check(off <= TOLERANCE, mechanism, f"in chunks of {lengths} it is {off:.2g} away from all at once")


def _q_len(mechanism: Mechanism) -> int | None:
    return None if mechanism.recurrence is not None else 5


UNIVERSAL = (
    context_is_a_vector_a_query,
    weights_mix_the_values,
    samples_are_apart,
    gradients_are_right,
    hidden_keys_do_not_matter,
    chunks_are_one,
)
