"""Laws that every mechanism obeys, built in or not; nobody has to state them."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from attnkit import masks
from attnkit.laws.own import TOLERANCE
from attnkit.laws.trial import Trial, check
from attnkit.masks import Mask
from attnkit.mechanism import Bound, Mechanism, Sizes, sizes_of


def context_is_a_vector_a_query(mechanism: Mechanism, **options: Any) -> None:
    """The context has a finite vector for each query and head, in the dtype of what it is given."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        trial = Trial.of(mechanism, options, q_len=_q_len(mechanism), dtype=dtype)
        context, query = trial.context, trial.tensors["query"]
        check(context.dtype == dtype, mechanism, f"its context is {context.dtype} for {dtype}")
        check(context.shape[:-1] == query.shape[:-1], mechanism, f"its context is {tuple(context.shape)}")
        check(context.isfinite().all(), mechanism, f"its context is not finite in {dtype}")


def weights_mix_the_values(mechanism: Mechanism, **options: Any) -> None:
    """The context is the weights times the values, finished by the mechanism if it says how.

    Where a mechanism says its weights itself, its context of values that are zero is taken away first.
    """
    trial = Trial.of(mechanism, options, q_len=_q_len(mechanism))
    if mechanism.weigh is not None and trial.weights.shape[-1] != trial.tensors["value"].shape[-2]:
        return
    apart = trial.mixed - trial.context
    if mechanism.weigh is not None:
        none = trial.map(lambda name, t: torch.zeros_like(t) if name == "value" else t)
        apart = apart - (none.mixed - none.context)
    off = apart.abs().max().item()
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
    """The gradient of each tensor is finite, and predicts what a small step does; none is a gradient of zero."""
    trial = Trial.of(mechanism, options, q_len=_q_len(mechanism))
    probe = torch.randn(trial.context.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    leaves = trial.map(lambda name, tensor: tensor.clone().requires_grad_())
    (leaves.context * probe).sum().backward()
    for name, leaf in leaves.tensors.items():
        grad = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        check(grad.isfinite().all(), mechanism, f"the gradient of {name} is not finite")
        way = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        ahead, behind = (
            trial.map(lambda n, t, s=step, own=name, w=way: t + s * w if n == own else t).context * probe
            for step in (1e-6, -1e-6)
        )
        measured, told = (ahead - behind).sum().item() / 2e-6, (grad * way).sum().item()
        off = abs(measured - told)
        check(
            off <= 1e-5 * max(1.0, abs(measured)),
            mechanism,
            f"along {name} the context moves by {measured:.6g}, its gradient says {told:.6g}",
        )


def hidden_keys_do_not_matter(mechanism: Mechanism, **options: Any) -> None:
    """What a call's mask hides may hold anything."""
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
    if not mechanism.settles or not bound.is_causal(trial.tensors, sizes):
        return
    in_pieces = _piece_by_piece if mechanism.recurrence is None else _state_by_state
    for mask in (None, masks.lengths([7, 2])):
        whole = trial.called(mask)
        for lengths in ([1] * 7, [3, 1, 3]):
            off = (in_pieces(trial, lengths, mask) - whole).abs().max().item()
            check(
                off <= TOLERANCE, mechanism, f"in chunks of {lengths} it is {off:.2g} away from all at once"
            )


def orders_agree(mechanism: Mechanism, **options: Any) -> None:
    """Token by token, in chunks and all at once, a recurrence makes one context, state and gradient of one past."""
    if mechanism.recurrence is None:
        return
    trial = Trial.of(mechanism, options)
    for cut in range(7):
        steps = _with_gradients(trial, cut, "steps")
        for order in ("parallel", "chunked"):
            other = _with_gradients(trial, cut, order)
            check(
                other.keys() == steps.keys(), mechanism, f"{order} passes gradients to {sorted(other)} alone"
            )
            for name, found in other.items():
                off = (found - steps[name]).abs().max().item() / max(1.0, steps[name].abs().max().item())
                check(
                    off <= TOLERANCE,
                    mechanism,
                    f"{order} after {cut} tokens, {name} is {off:.2g} away from steps",
                )


def _piece_by_piece(trial: Trial, lengths: list[int], mask: Mask | None) -> Tensor:
    """The context of queries in pieces, each with the keys so far."""
    return torch.cat([trial.rows(start, stop).called(mask) for start, stop in _spans(lengths)], -2)


def _state_by_state(trial: Trial, lengths: list[int], mask: Mask | None) -> Tensor:
    """The context of tokens in pieces, each with the state so far."""
    state, contexts = None, []
    for start, stop in _spans(lengths):
        bound, tensors, sizes = _prepared(trial, start, stop)
        context, state = bound.advanced(tensors, sizes, state=state, mask=mask, kv_start=start)
        contexts.append(context)
    return torch.cat(contexts, -2)


def _with_gradients(trial: Trial, cut: int, order: str) -> dict[str, Tensor]:
    """Context, state, and the gradient of every tensor, where the first `cut` tokens come as a state."""
    leaves = trial.map(lambda name, tensor: tensor.clone().requires_grad_())
    state = _run(leaves, 0, cut, "steps", None)[1] if cut else None
    context, after = _run(leaves, cut, 7, order, state)
    generator = torch.Generator().manual_seed(2)
    probes = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in (context, *after)]
    torch.stack(
        [(x * probe).sum() for x, probe in zip((context, *after), probes, strict=True)]
    ).sum().backward()
    found = {"context": context} | {f"state {place}": part for place, part in enumerate(after)}
    found |= {
        f"the gradient of {name}": leaf.grad for name, leaf in leaves.tensors.items() if leaf.grad is not None
    }
    return {name: tensor.detach() for name, tensor in found.items()}


def _run(trial: Trial, start: int, stop: int, order: str, state: Any) -> tuple[Tensor, Any]:
    bound, tensors, sizes = _prepared(trial, start, stop)
    query, key, value = (tensors[name] for name in ("query", "key", "value"))
    recurrence = replace(bound.recurrence(sizes), chunk_tokens=2)
    return recurrence.run(query, key, value, order=order, state=state, **bound.gates(tensors, sizes))


def _prepared(trial: Trial, start: int, stop: int) -> tuple[Bound, dict[str, Tensor], Sizes]:
    tokens = trial.of_tokens("query") | trial.of_tokens("key")
    tensors = trial.map(lambda name, t: t[..., start:stop, :] if name in tokens else t).tensors
    bound, sizes = trial.mechanism.bind(trial.options), sizes_of(tensors["query"], tensors["key"])
    return bound, bound.prepared(tensors, sizes, q_start=start, kv_start=start), sizes


def _spans(lengths: list[int]) -> list[tuple[int, int]]:
    stops = [sum(lengths[: place + 1]) for place in range(len(lengths))]
    return [(stop - length, stop) for length, stop in zip(lengths, stops, strict=True)]


def _q_len(mechanism: Mechanism) -> int | None:
    return None if mechanism.recurrence is not None else 5


UNIVERSAL = (
    context_is_a_vector_a_query,
    weights_mix_the_values,
    samples_are_apart,
    gradients_are_right,
    hidden_keys_do_not_matter,
    chunks_are_one,
    orders_agree,
)
