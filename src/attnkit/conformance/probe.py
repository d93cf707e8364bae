"""A module as a function of query, key and value: projections give what they are told, and the context is read.

    context = probe(query, key, value)       (batch, len, width) each, heads not yet split and already merged

Hooks on a copy replace what the projections give, and one before the output projection reads the context. With values
that are known, the context is the weights. The trap: this holds only where the context is linear in the values, and
comes of nothing else; both are tried before anything is read.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attnkit.conformance.case import ROUNDING, Case, Skip
from attnkit.conformance.finding_projections import Slot, context_of, slots_of
from attnkit.conformance.subject import Subject

ROLES = ("query", "key", "value")


@dataclass(frozen=True)
class Probe:
    """A target as a function of query, key and value.

    Attributes:
        subject: a copy of the target that hooks may be put on.
        slots: where each of query, key and value comes out.
        read: the name of what is given the context; "" where the target itself gives it.
        widths: numbers of query, key, value and context for each token, over all heads.
        time_first: whether its projections see (len, batch, width).
        memory: whether key and value come of a memory of another length.
        seed: of the tokens, which do not matter.
        apart: whether a sample's context is its own, so that many readings can be made at once.
    """

    subject: Subject
    slots: dict[str, Slot]
    read: str
    widths: dict[str, int]
    time_first: bool
    memory: bool
    seed: int
    apart: bool = True

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, *, tokens: int = 0) -> Tensor:
        """The merged context (batch, q_len, width).

        Args:
            query: (batch, q_len, width).
            key: (batch, kv_len, width); as many as queries, but for a memory.
            value: (batch, kv_len, width).
            tokens: which tokens stand behind them.

        Raises:
            Skip: the target takes another way, in which nothing is read.
        """
        seen: list[Tensor] = []
        given = {"query": query, "key": key, "value": value}
        taken = [slot.put(self.subject.module, given, self.time_first) for slot in _once(self.slots)]
        taken.append(context_of(self.subject.module, self.read, seen.append))
        try:
            x, memory = self._behind(query.shape, key.shape[1], tokens)
            with torch.no_grad():
                output = self.subject(x, memory=memory)
        except Exception as trouble:  # whatever a target raises
            words = f"it raises {type(trouble).__name__} for {tuple(query.shape)}"
            raise trouble if isinstance(trouble, Skip) else Skip(words) from trouble
        finally:
            for handle in taken:
                handle.remove()
        if not self.read:
            return output
        if len(seen) != 1:
            raise Skip(f"its output projection is called {len(seen)} times")
        return seen[0].transpose(0, 1) if self.time_first else seen[0]

    def _behind(self, shape: Any, kv_len: int, tokens: int) -> tuple[Tensor, Tensor | None]:
        """Tokens of one sample, for all of them."""
        drawn = torch.Generator().manual_seed(self.seed + tokens)
        x = torch.randn(1, shape[1], self.subject.d_in, generator=drawn, dtype=torch.float64)
        if not self.memory:
            return x.repeat(shape[0], 1, 1), None
        memory = torch.randn(1, kv_len, self.subject.memory_dim, generator=drawn, dtype=torch.float64)
        return x.repeat(shape[0], 1, 1), memory.repeat(shape[0], 1, 1)

    def weight(self, query: Tensor, key: Tensor, s: int) -> Tensor:
        """The weight of key s behind each number of the context, (batch, q_len, width): its value alone is 1."""
        value = self.zeros("value", *key.shape[:2])
        value[:, s] = 1
        return self(query, key, value)

    def weights(self, query: Tensor, key: Tensor) -> Tensor:
        """The weights behind each number of the context, (batch, q_len, kv_len, width)."""
        return torch.stack([self.weight(query, key, s) for s in range(key.shape[1])], 2)

    def zeros(self, role: str, batch: int, length: int) -> Tensor:
        """Zeros in the shape of a role."""
        return torch.zeros(batch, length, self.widths[role], dtype=torch.float64)

    def drawn(self, role: str, batch: int, length: int, *, seed: int = 0, size: float = 1.0) -> Tensor:
        """Random numbers in the shape of a role, others for each role."""
        drawn = torch.Generator().manual_seed(97 * self.seed + 7 * seed + ROLES.index(role))
        return size * torch.randn(batch, length, self.widths[role], generator=drawn, dtype=torch.float64)


def probe_of(case: Case) -> Probe:
    """The probe of a case, made once.

    Raises:
        Skip: the target cannot be probed; the text says why.
    """
    if "probe" not in case.facts:
        try:
            case.facts["probe"] = _made(case)
        except Skip as reason:
            case.facts["probe"] = str(reason)
    found = case.facts["probe"]
    if isinstance(found, str):
        raise Skip(found)
    return found


def _once(slots: dict[str, Slot]) -> list[Slot]:
    """Each module once: a fused one holds several roles."""
    found: dict[str, Slot] = {}
    for slot in slots.values():
        found[slot.name] = found[slot.name].joined(slot) if slot.name in found else slot
    return list(found.values())


def _made(case: Case) -> Probe:
    subject = case.subject.copied()
    slots, read = slots_of(case, subject)
    seen: list[Tensor] = []
    calls: dict[str, list[Tensor]] = {slot.name: [] for slot in slots.values()}
    handles = [slot.watch(subject.module, calls[slot.name].append) for slot in slots.values()]
    handles.append(context_of(subject.module, read, seen.append))
    try:
        with torch.no_grad():
            output = subject(case.tokens(3, 5), memory=case.memory(3, 5))
    finally:
        for handle in handles:
            handle.remove()
    for role, slot in slots.items():
        if not calls[slot.name]:
            case.facts.setdefault("never_called", []).append((role, slot.name))
            raise Skip(f"its {role} projection is never called")
    context = (seen or [output])[0] if not read or seen else None
    shapes = {role: calls[slot.name][0].shape for role, slot in slots.items()}
    if context is None or any(len(calls[slot.name]) > _uses(slots, slot) for slot in slots.values()):
        raise Skip("its projections are not called once each")
    if any(len(shape) != 3 for shape in (*shapes.values(), context.shape)):
        raise Skip("its projections do not give (batch, len, width)")
    time_first = shapes["query"][:2] == (5, 3)
    widths = {role: slot.width(shapes[role][-1]) for role, slot in slots.items()}
    widths["context"] = context.shape[-1]
    probe = Probe(subject, slots, read, widths, time_first, case.declared.cross, case.declared.seed)
    return _tried(probe)


def _uses(slots: dict[str, Slot], slot: Slot) -> int:
    return sum(other.name == slot.name for other in slots.values())


def _tried(probe: Probe) -> Probe:
    """The probe, if a context comes of it alone and is linear in the values.

    Raises:
        Skip: it is not.
    """
    query, key, one = (probe.drawn(role, 3, 4) for role in ROLES)
    two = probe.drawn("value", 3, 4, seed=1)
    base, other = probe(query, key, one), probe(query, key, two)
    both, elsewhere = probe(query, key, one + two), probe(query, key, one, tokens=1)
    size = base.abs().max().clamp_min(1e-30)
    if not base.isfinite().all() or base.abs().max() < 1e-12:
        raise Skip("nothing of the values reaches its output projection")
    if (elsewhere - base).abs().max() > ROUNDING * size:
        raise Skip("what its output projection is given comes of more than query, key and value")
    if (base + other - both).abs().max() > ROUNDING * size:
        raise Skip("what its output projection is given is not linear in the values")
    alone = torch.cat([probe(query[b : b + 1], key[b : b + 1], one[b : b + 1]) for b in (0, 2)])
    return replace(probe, apart=bool((alone - base[[0, 2]]).abs().max() <= ROUNDING * size))
