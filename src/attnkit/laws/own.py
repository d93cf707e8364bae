"""Laws that a mechanism states of itself: what its weights add up to, what it hides, and what it becomes."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from attnkit.laws.trial import Trial, check
from attnkit.mechanism import Law, Mechanism

TOLERANCE = 1e-9  # in float64, where rounding is some 1e-15 of numbers of about 1


def no_future_leak(mechanism: Mechanism, **options: Any) -> None:
    """A query's context stays as it is when anything after it changes."""
    trial, other = Trial.of(mechanism, options), Trial.of(mechanism, options, seed=1)
    tokens = trial.of_tokens("key") | trial.of_tokens("query")
    context = trial.context
    for cut in range(1, 7):

        def later(name: str, tensor: Tensor, cut: int = cut) -> Tensor:
            if name not in tokens:
                return tensor
            return torch.cat([tensor[..., :cut, :], other.tensors[name][..., cut:, :]], -2)

        moved = (trial.map(later).context - context).abs()
        seen = moved[..., :cut, :].max().item()
        check(
            seen <= TOLERANCE,
            mechanism,
            f"a context before token {cut} moves by {seen:.2g} with what follows",
        )
        check(moved[..., cut:, :].max() > 0, mechanism, f"nothing moves with the tokens from {cut} on")


def rows_sum_to_one(mechanism: Mechanism, **options: Any) -> None:
    """Weights are not negative, and sum to one in each row that reads anything."""
    weights = _weights(mechanism, options)
    read = (weights > 0).any(-1)
    off = (weights.sum(-1) - read.double()).abs().max().item()
    check(off <= TOLERANCE, mechanism, f"a row of weights is {off:.2g} off one")
    check(read.any(), mechanism, "no row reads anything")


def rows_sum_to_at_most_one(mechanism: Mechanism, **options: Any) -> None:
    """Weights are not negative, and sum to one or less in each row; in some row to less."""
    sums = _weights(mechanism, options).sum(-1)
    check(sums.max() <= 1 + TOLERANCE, mechanism, f"a row of weights sums to {sums.max().item():.3f}")
    check(sums.min() < 1 - TOLERANCE, mechanism, "every row of weights sums to one")


def reads_just(keep: Callable[..., bool]) -> Law:
    """The law that a query reads the keys for which `keep(q_pos, kv_pos, **options)` holds, and no others."""

    def reads_just(mechanism: Mechanism, **options: Any) -> None:
        """A query reads the keys that the rule in its file keeps, and no others."""
        trial = Trial.of(mechanism, options, q_len=5)
        read = (trial.weights != 0).any(0).any(0)
        wanted = torch.tensor([[bool(keep(q, k, **options)) for k in range(7)] for q in range(2, 7)])
        for q, k in (read != wanted).nonzero().tolist():
            verb = "reads" if read[q, k] else "does not read"
            check(False, mechanism, f"the query at position {q + 2} {verb} key {k}")

    return reads_just


def reduces_to(
    other: Mechanism,
    *,
    theirs: Mapping[str, Any] | None = None,
    parts: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    given: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
    **mine: Any,
) -> Law:
    """The law that with the options `mine` this mechanism is `other`.

    Args:
        other: what it becomes.
        theirs: the options of the other.
        parts: what the tensors of this mechanism's parts are made into first, by name.
        given: what the other is given instead, made from the tensors of this one, by name.
        mine: options of this mechanism; those of the example stay otherwise.
    """
    changes = parts or {}

    def reduces(mechanism: Mechanism, **options: Any) -> None:
        trial = Trial.of(mechanism, options | mine)
        trial = trial.map(lambda name, tensor: changes.get(name, lambda t: t)(tensor))
        tensors = trial.tensors if given is None else trial.tensors | given(trial.tensors)
        shared = {name: t for name, t in tensors.items() if name in Trial.of(other, theirs or {}).tensors}
        expected = Trial(other, theirs or {}, shared).context
        off = (trial.context - expected).abs().max().item()
        check(
            off <= TOLERANCE,
            mechanism,
            f"it is {off:.2g} away from {other.name} with {mine or 'these parts'}",
        )

    reduces.__name__ = f"reduces_to_{other.name}"
    reduces.target, reduces.options = other, mine  # pyright: ignore[reportFunctionMemberAccess]
    reduces.theirs, reduces.parts = dict(theirs or {}), dict(changes)  # pyright: ignore[reportFunctionMemberAccess]
    reduces.given = given  # pyright: ignore[reportFunctionMemberAccess]
    return reduces


def when(law: Law, **mine: Any) -> Law:
    """The law that with the options `mine` another law holds; those of the example stay otherwise."""

    def holds(mechanism: Mechanism, **options: Any) -> None:
        law(mechanism, **(options | mine))

    holds.__name__ = "_".join([getattr(law, "__name__", "law"), "when", *mine])
    holds.__doc__ = law.__doc__
    holds.law, holds.options = law, mine  # pyright: ignore[reportFunctionMemberAccess]
    return holds


def _weights(mechanism: Mechanism, options: Mapping[str, Any]) -> Tensor:
    weights = Trial.of(mechanism, options, q_len=None).weights
    check(weights.min() >= 0, mechanism, f"a weight is negative, {weights.min().item():.2g}")
    return weights
