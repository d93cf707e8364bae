"""Queries that have nothing to read, since a mask hides every key: their outputs are finite, and depend on nothing.

A context of zeros does, and so does anything else that is constant. A plain softmax of minus infinities is nan, and one
of equal finite fills is the mean of values that the mask hides.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from attnkit.conformance.case import ROUNDING, Case, Check
from attnkit.conformance.claims import LIBRARIES
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import FUTURE
from attnkit.conformance.relations.reads import Source, apart, attempted
from attnkit.conformance.relations.walking import ASKED, BASE, PATHS, Path, walked

PATHS_OF_DEAD_ROWS = (
    BASE,
    *(path for path in PATHS if path.name in ("training", "evaluation without gradients")),
    ASKED,
)


def _masks(source: Source) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Where, a mask (3, 7), and which outputs (3, q_len) have nothing to read."""
    keep = torch.ones(3, 7, dtype=torch.bool)
    keep[1] = False
    yield (
        "a sample whose keys are all hidden",
        keep,
        (~keep.any(-1, keepdim=True)).expand_as(source.rows(keep)),
    )
    case = source.case
    if case.declared.causal and not source.memory:
        keep = torch.ones(3, 7, dtype=torch.bool)
        keep[1, :3] = False
        yield "padding on the left of a causal text", keep, ~keep


def run_dead_rows(case: Case) -> Iterator[Finding]:
    """Forward and backward, on a few paths."""
    case.need(case.subject.takes_keep, "it takes no mask of keys")
    source, tested = Source(case, case.declared.cross), False
    source.need_steady()
    for path in PATHS_OF_DEAD_ROWS[: 1 if library(case) else None]:
        for where, keep, dead in _masks(source):
            told = where if path is BASE else f"{where}, {path.name}"
            found = _found(source, path, told, keep, dead)
            tested |= found is not None
            if found and _found(source, replace(path, dtype=torch.float32), told, keep, dead) != []:
                yield replace(found[0], path="" if path is BASE else path.name)
                return
    case.need(tested, "it refuses a mask that hides every key of a sample")


def _found(source: Source, path: Path, told: str, keep: Tensor, dead: Tensor) -> list[Finding] | None:
    """What is not finite on a path; None where it refuses.

    Fills that float64 holds overflow where a target goes on in float32, so that both are asked.
    """
    subject = walked(source.case, path)
    if subject is None:
        return None
    keys = source.keys(3, 7, seed=60).to(path.dtype)
    with torch.set_grad_enabled(path.grad):
        output = attempted(source, keys, keep, subject)
    if output is None:
        return None
    found = _forward(told, output, dead) or (path.grad and _backward(source, told, path, keys, keep))
    return [found] if found else []


def library(case: Case) -> bool:
    """Whether a target is of a library that leaves open what such a query gives, since it is never read."""
    home = type(case.subject.module).__module__.split(".")[0]
    return home in {"torch", "local_attention", *LIBRARIES} - {"attnkit"}


def _forward(where: str, output: Tensor, dead: Tensor) -> Finding | None:
    bad = ~output.isfinite().all(-1)
    if not bad.any():
        return None
    spread = bool((bad & ~dead).any())
    sentence = f"{where}: {int(bad.sum())} of {bad.numel()} outputs are not finite"
    return Finding(
        "dead_rows",
        "dead-row-nan",
        f"{sentence}{', some of which have keys to read' if spread else ''}",
        float(bad.sum()),
        data={"where": where, "spread": spread},
    )


def _backward(source: Source, where: str, path: Path, keys: Tensor, keep: Tensor) -> Finding | None:
    names = _not_finite(source, path, keys, keep)
    if not names:
        return None
    sentence = f"{where}: outputs are finite, the gradient of {', '.join(names[:3])} is not"
    return Finding("dead_rows", "dead-row-nan", sentence, float(len(names)), data={"where": where})


def _not_finite(source: Source, path: Path, keys: Tensor, keep: Tensor) -> list[str]:
    """What has a gradient that is not finite."""
    keys, subject = keys.clone().requires_grad_(), walked(source.case, path)
    assert subject is not None  # the path has been walked
    with torch.enable_grad():
        output = source(keys, keep, subject)
        if not output.requires_grad:
            return []
        probe = torch.randn(output.shape, generator=source.case.generator(61), dtype=torch.float64)
        (output * probe.to(output)).sum().backward()
    named = {"the tokens": keys} | dict(subject.module.named_parameters())
    return [name for name, leaf in named.items() if leaf.grad is not None and not leaf.grad.isfinite().all()]


def run_dead_row_junk(case: Case) -> Iterator[Finding]:
    """What such a query gives does not depend on hidden tokens."""
    case.need(case.subject.takes_keep, "it takes no mask of keys")
    case.need("mask fault" not in case.facts, "its mask of keys is wrong anyway")
    case.need(not library(case), "its library leaves open what such a query gives")
    source = Source(case, case.declared.cross)
    source.need_steady()
    keys, other = (source.keys(3, 7, seed=seed) for seed in (60, 62))
    for where, keep, dead in _masks(source):
        t = int(dead[1].nonzero().max())
        changed = keys.clone()
        own = keys[1, t].clone()
        changed[1, ~keep[1]] = other[1, ~keep[1]]
        if not source.memory:
            changed[1, t] = own
        base, after = attempted(source, keys, keep), attempted(source, changed, keep)
        if base is None or after is None or not base.isfinite().all():
            continue
        far = apart(base, after)[1, t].item()
        if far > ROUNDING:
            yield Finding(
                "dead_row_junk",
                "dead-row-junk",
                f"{where}: output {t}, which has nothing to read, moves by {far:.2g} of the largest with hidden tokens",
                far,
                ROUNDING,
                data={"where": where},
            )
            return


CHECKS = (
    Check(
        "dead_rows",
        "basic",
        run_dead_rows,
        "a query with no key to read gives finite numbers, forward and backward",
        FUTURE,
    ),
    Check(
        "dead_row_junk",
        "full",
        run_dead_row_junk,
        "a query with no key to read gives what depends on no hidden token",
        FUTURE,
    ),
)
