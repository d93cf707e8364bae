"""Dropout of weights: it acts in training, on each weight by itself, after the softmax, and what it keeps is rescaled.

    output of one key, h heads = offset + sum_h kept_h / (1 - p) * share_h          kept_h is 0 or 1

One key has weight 1, so that every output of one key is a corner of a box with a side for each head. A dropout of
scores moves nothing there; heads that drop together leave fewer sides. All draws are the samples of one call.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from attnkit.conformance.adapters.functions import AroundFunction
from attnkit.conformance.case import ROUNDING, Case, Check
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import BATCHES
from attnkit.conformance.relations.reads import MILD
from attnkit.conformance.relations.watching import Drop, Dropping

DRAWS = 400
SIGMAS = 6.0  # once in 500 million by chance, and the draws are the same in each run
KEYS = 5
TOGETHER = 0.3  # less is left of the correlation of rows that drop together where weights differ


def run_dropout(case: Case) -> Iterator[Finding]:
    """Where dropout acts, and how."""
    case.need(not isinstance(case.subject.module, AroundFunction), "a function has no mode")
    evaluated, (one, two), seen = _calls(case)
    said = case.declared.dropout
    if seen:
        case.facts["dropout"] = max(drop.probability for drop in seen)
    if case.off(one, two) == 0:
        case.need(said, "nothing is dropped in training, and no dropout was declared")
        yield from _never(case, evaluated, one)
        return
    case.need(said is None or said, "dropout=0.0 was declared")
    pairs = any(drop.of_pairs(KEYS, KEYS) for drop in seen)
    case.need(said or pairs, "something is random in training, and no dropout was declared")
    yield from _found(case)


def _calls(case: Case) -> tuple[Tensor, tuple[Tensor, Tensor], list[Drop]]:
    """An output in evaluation, two in training, and what was dropped meanwhile."""
    x, memory = case.tokens(length=KEYS), case.memory(length=KEYS)
    evaluated, again = (case.untouched.copied()(x, memory=memory) for _ in range(2))
    case.need(case.off(evaluated, again) == 0, "equal calls in evaluation differ")
    other = case.untouched.copied()(case.tokens(length=KEYS, seed=1), memory=memory)
    case.need(case.off(evaluated, other) > ROUNDING, "its outputs do not depend on its tokens")
    subject, mode = case.untouched.copied(training=True), Dropping()
    with mode:
        return evaluated, (subject(x, memory=memory), subject(x, memory=memory)), mode.seen


def _never(case: Case, evaluated: Tensor, trained: Tensor) -> Iterator[Finding]:
    p = case.declared.dropout
    off = case.off(trained, evaluated)
    if off > ROUNDING:
        sentence = (
            f"every call in training drops the same: two are equal, and {off:.2g} off those in evaluation"
        )
        yield Finding("dropout", "dropout-shared", sentence, off, 0.0)
        return
    sentence = f"outputs in training are those in evaluation, though dropout={p:g} was declared"
    yield Finding("dropout", "dropout-never", sentence, off, 0.0)


def _found(case: Case) -> Iterator[Finding]:
    """The first of these that is wrong."""
    for part in (_sticky, _by_samples, _one_key, _by_rows):
        found = part(case)
        if found is not None:
            yield found
            return


def _sticky(case: Case) -> Finding | None:
    x, memory = case.tokens(), case.memory()
    subject = case.untouched.copied(training=True)
    subject(x, memory=memory)
    subject.module.eval()
    subject(x, memory=memory)
    subject.module.train()
    if case.off(subject(x, memory=memory), subject(x, memory=memory)) > 0:
        return None
    return Finding(
        "dropout",
        "dropout-sticky",
        "after a call in evaluation, nothing is dropped in training any more",
        0.0,
    )


def _keys(case: Case, length: int, *, size: float = 1.0, seed: int = 40) -> tuple[Tensor, Tensor | None]:
    """Tokens of one sample, and a memory where one is read; the last token is the same for each seed."""
    x, memory = size * case.tokens(1, length, seed=seed), case.memory(1, length, seed=seed)
    if memory is not None:
        return size * case.tokens(1, length, seed=40), size * memory
    return torch.cat([x[:, :-1], size * case.tokens(1, 1, seed=39 if length > 1 else seed)], 1), None


def _drawn(case: Case, x: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Outputs (draws, q_len, d_out) of equal samples in training, and that in evaluation; weights alone are dropped."""
    kv_len = (x if memory is None else memory).shape[1]
    many = x.expand(DRAWS, -1, -1).contiguous()
    read = None if memory is None else memory.expand(DRAWS, -1, -1).contiguous()
    torch.manual_seed(case.declared.seed)
    try:
        with torch.no_grad(), Dropping(lambda drop: not drop.of_pairs(x.shape[1], kv_len)):
            found = case.untouched.copied(training=True)(many, memory=read)
            return found, case.untouched.copied()(x, memory=memory)
    except Exception:  # a target may refuse a length of 1
        return None


def _by_samples(case: Case) -> Finding | None:
    drawn = _drawn(case, *_keys(case, KEYS))
    if drawn is None or not drawn[0].isfinite().all():
        return None
    found, evaluated = drawn
    if case.off(found, evaluated.expand_as(found)) <= ROUNDING:  # other numbers are dropped, not weights
        return None
    spread = case.off(found, found[:1].expand_as(found))
    if spread > ROUNDING:
        return None
    sentence = f"{DRAWS} equal samples of one call drop the same: their outputs are equal"
    return Finding("dropout", "dropout-shared", sentence, spread, ROUNDING)


def _one_key(case: Case) -> Finding | None:
    """What one key tells: whether its weight is dropped at all, how many heads drop by themselves, and the mean."""
    drawn, longer = (_drawn(case, *_keys(case, length)) for length in (1, KEYS))
    if drawn is None or longer is None:
        return None
    found, evaluated = drawn[0][:, -1], drawn[1][:, -1]
    finite = found[found.isfinite().all(-1)]
    if case.off(longer[0], longer[1].expand_as(longer[0])) <= ROUNDING:
        return None  # other numbers are dropped, not weights
    other = case.untouched.copied()(*_keys(case, 1, seed=42))[:, -1]
    if case.off(other, evaluated) <= ROUNDING:
        return None  # one key is not read
    moves = case.off(finite, evaluated.expand_as(finite)) if len(finite) else 0.0
    if moves <= ROUNDING:
        sentence = (
            f"with one key, whose weight is 1, training moves outputs by {moves:.2g} of their size, "
            f"and with {KEYS} keys by more: scores are dropped, before the softmax"
        )
        return Finding("dropout", "dropout-before-softmax", sentence, moves, ROUNDING)
    if len(finite) < DRAWS:
        return None
    return _by_heads(case, found) or _rescaled(case) or _reversed(case, found)


def _corners(found: Tensor) -> tuple[int, int]:
    """How many different outputs there are, and the dimension of the space that they span."""
    size = found.abs().max().item() or 1.0
    _, groups = torch.unique((found / size / 1e-5).round(), dim=0, return_inverse=True)
    count = int(groups.max()) + 1
    first = torch.full((count,), DRAWS).scatter_reduce(0, groups, torch.arange(DRAWS), "amin")
    different = found[first]
    return count, int(torch.linalg.matrix_rank(different - different.mean(0), rtol=1e-6))


def _by_heads(case: Case, found: Tensor) -> Finding | None:
    heads = case.declared.num_heads
    count, sides = _corners(found)
    if not heads or not 1 <= sides < min(heads, found.shape[-1]) or count != 2**sides:
        return None
    sentence = (
        f"{heads} heads of one key give {count} different outputs in {DRAWS} draws: heads drop together"
    )
    return Finding("dropout", "dropout-shared", sentence, float(count), float(2**heads))


def _rescaled(case: Case) -> Finding | None:
    """How much of a difference that keys make in evaluation is left in the mean of training.

    All of it if what is kept is rescaled; 1 - p if not; (1 - p)^2 if evaluation is rescaled instead. Anything else is
    made by what follows the weights: the mean of a norm is not the norm of the mean.
    """
    one, two = (_drawn(case, *_keys(case, KEYS, size=MILD, seed=seed)) for seed in (43, 44))
    p = case.declared.dropout or case.facts.get("dropout", 0.0)
    if one is None or two is None or not (one[0].isfinite().all() and two[0].isfinite().all()):
        return None
    trained, evaluated = (one[i][:, -1].double().mean(0) - two[i][:, -1].double().mean(0) for i in (0, 1))
    spread = sum(draws[0][:, -1].double().var(0) for draws in (one, two))
    size = evaluated.square().sum().item()
    if not size:
        return None
    left = (trained @ evaluated).item() / size
    error = (evaluated.square() @ (spread / DRAWS)).item() ** 0.5 / size
    near = min(abs(left - (1 - p)), abs(left - (1 - p) ** 2))
    sigmas = abs(1 - left) / max(error, 1e-12)
    if sigmas <= SIGMAS or near > SIGMAS * error:
        return None
    sentence = (
        f"the mean of {DRAWS} draws in training has {left:.2f} of the difference that keys make in evaluation, "
        f"{sigmas:.0f} standard errors from 1: what is kept is not divided by the chance to be kept, {1 - p:g}"
    )
    return Finding("dropout", "dropout-not-rescaled", sentence, sigmas, SIGMAS, data={"left": left})


def _reversed(case: Case, found: Tensor) -> Finding | None:
    """Whether the output that comes most often is the one without any token, though less than half is dropped."""
    other = _drawn(case, *_keys(case, 1, seed=42))
    if other is None or not 0 < (case.declared.dropout or 1) < 0.4:
        return None
    most = [draws.mode(0).values for draws in (found, other[0][:, -1])]
    if case.off(*most) > ROUNDING:
        return None
    sentence = (
        f"the output of one key that comes most often in {DRAWS} draws is the same for other tokens: "
        f"more is dropped than is kept, though dropout={case.declared.dropout:g} was declared"
    )
    return Finding("dropout", "dropout-not-rescaled", sentence, case.off(*most), ROUNDING)


def _by_rows(case: Case) -> Finding | None:
    drawn = _drawn(case, *_keys(case, KEYS, size=MILD))
    if drawn is None or not drawn[0].isfinite().all():
        return None
    found, evaluated = drawn
    if case.off(found, evaluated.expand_as(found)) <= ROUNDING:  # other numbers are dropped, not weights
        return None
    probe = torch.randn(found.shape[-1], generator=case.generator(41), dtype=torch.float64)
    rows = found.double() @ probe
    rows = rows - rows.mean(0)
    spread = rows.norm(dim=0)
    if (spread[-2:] <= ROUNDING * spread.max()).any():
        return None
    together = (rows[:, -1] @ rows[:, -2] / spread[-1] / spread[-2]).item()
    if abs(together) <= TOGETHER:
        return None
    sentence = f"what is dropped of two rows goes together: their outputs correlate by {together:.2f}"
    return Finding("dropout", "dropout-shared", sentence, together, TOGETHER)


CHECKS = (
    Check(
        "dropout",
        "basic",
        run_dropout,
        "dropout acts in training, on each weight by itself, after the softmax, and what it keeps is rescaled",
        BATCHES,
    ),
)
