"""Who reads whom: how far each output moves with each token that keys are made of.

    moved[b, t, s] = |output_t(keys with token s replaced) - output_t(keys)| / largest output

Replacing finds what a hard choice of keys reads, which has no gradient. A gradient finds what a saturated
softmax reads, which hardly moves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnkit.conformance.case import Case
from attnkit.conformance.subject import Subject

QUERIES = 4
MILD = 0.1  # tokens so small that weights are near to uniform


@dataclass(frozen=True)
class Source:
    """What keys are made of: the tokens themselves, or a memory.

    Attributes:
        case: the run.
        memory: whether they are made of a memory, which some queries read.
    """

    case: Case
    memory: bool = False

    def keys(self, batch: int, length: int, *, seed: int = 0) -> Tensor:
        """Peaked tokens (batch, length, width)."""
        width = self.case.subject.memory_dim if self.memory else self.case.subject.d_in
        generator = self.case.generator(seed + 500 * self.memory)
        return 3 * torch.randn((batch, length, width), generator=generator, dtype=torch.float64)

    def __call__(self, keys: Tensor, keep: Tensor | None = None, subject: Subject | None = None) -> Tensor:
        """The output (batch, q_len, d_out), by the case's own subject unless another is given."""
        torch.manual_seed(self.case.declared.seed)  # so that dropout drops the same, wherever it acts
        subject = subject or self.case.subject
        if not self.memory:
            return subject(keys, keep=keep)
        size = (
            1.0 if keys.detach().std() > 1 else MILD
        )  # mild queries to mild tokens, and no other dependence
        x = size * self.case.tokens(keys.shape[0], QUERIES, seed=50)
        return subject(x.to(keys), memory=keys, keep=keep)

    def need_steady(self) -> None:
        """Leave a check out where equal calls differ, so that no difference tells anything.

        Raises:
            Skip: they do.
        """
        keys = self.keys(2, 5, seed=90)
        one, two = attempted(self, keys), attempted(self, keys)
        differ = one is not None and two is not None and not torch.equal(one.nan_to_num(), two.nan_to_num())
        self.case.need(not differ, "equal calls differ")

    def pairs(self, keep: Tensor) -> Tensor:
        """Which pairs (batch, q_len, kv_len) tell of a mask: not a token and its own key, and no hidden query."""
        batch, length = keep.shape
        if self.memory:
            return torch.ones(batch, QUERIES, length, dtype=torch.bool)
        return keep[:, :, None] & ~torch.eye(length, dtype=torch.bool)

    def rows(self, keep: Tensor) -> Tensor:
        """Which outputs (batch, q_len) have a query that is not hidden."""
        return self.pairs(keep).any(-1) if self.memory else keep


def attempted(call: Callable[..., Tensor], *given: Any, **more: Any) -> Tensor | None:
    """What a call gives; None where the target refuses it, which it may."""
    try:
        return call(*given, **more)
    except Exception:  # whatever a target raises
        return None


def apart(one: Tensor, other: Tensor) -> Tensor:
    """How far two outputs are apart, (batch, q_len), as a part of the largest finite number; infinite at one nan."""
    size = torch.where(one.isfinite(), one, 0).abs().max().clamp_min(1e-30)
    far = (one - other).abs().nan_to_num(posinf=float("inf")) / size
    return far.where(one.isfinite() == other.isfinite(), float("inf")).amax(-1).detach().double()


def moved(source: Source, keys: Tensor, keep: Tensor | None = None, *, draws: int = 2) -> Tensor:
    """How far outputs move (batch, q_len, kv_len) when a token is replaced: the most over some draws."""
    base = source(keys, keep)
    found = torch.zeros(*base.shape[:2], keys.shape[1], dtype=torch.float64)
    scale = keys.std() / 3
    for draw in range(draws):
        other = source.keys(keys.shape[0], keys.shape[1], seed=100 + draw) * scale
        for s in range(keys.shape[1]):
            changed = keys.clone()
            changed[:, s] = other[:, s]
            found[..., s] = torch.maximum(found[..., s], apart(base, source(changed, keep)))
    return found


def by_gradients(source: Source, keys: Tensor, keep: Tensor | None = None) -> Tensor:
    """How strongly outputs depend on tokens (batch, q_len, kv_len) by gradients; zeros where there are none."""
    keys = keys.clone().requires_grad_()
    with torch.enable_grad():
        output = source(keys, keep)
        found = torch.zeros(*output.shape[:2], keys.shape[1], dtype=torch.float64)
        probe = torch.randn(output.shape[-1], generator=source.case.generator(9), dtype=torch.float64)
        for t in range(output.shape[1] if output.requires_grad else 0):
            grad = torch.autograd.grad(
                (output[:, t] @ probe.to(output)).sum(), keys, retain_graph=True, allow_unused=True
            )[0]
            if grad is not None:
                found[:, t] = grad.nan_to_num().norm(dim=-1)
    return found


def rank(source: Source, keys: Tensor, keep: Tensor | None, pair: tuple[int, int, int]) -> int:
    """In how many directions output t of sample b moves with token s: few, where it reads no value of it."""
    b, t, s = pair
    keys = keys.clone().requires_grad_()
    with torch.enable_grad():
        output = source(keys, keep)[b, t]
        if not output.requires_grad:
            return 0
        rows = [
            torch.autograd.grad(number, keys, retain_graph=True, allow_unused=True)[0] for number in output
        ]
    if any(row is None for row in rows):
        return 0
    table = torch.stack([row[b, s] for row in rows if row is not None]).nan_to_num()
    return int(torch.linalg.matrix_rank(table, rtol=1e-9)) if table.abs().max() > 0 else 0
