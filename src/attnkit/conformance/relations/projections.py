"""Every projection has its part: each gets a gradient, is given the right tokens, and is read for what its name says.

Over one key the weight is 1 whatever the score is: then the output depends on the value's projection alone.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attnkit.conformance.case import Case, Check
from attnkit.conformance.claims import need_own, normalised
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import ROLES
from attnkit.conformance.probe import Probe, probe_of

LENGTH = 6  # tokens that are tried
NONE = 1e-9  # of the largest gradient of the module: a gradient that is none but for rounding


def run_unused(case: Case) -> Iterator[Finding]:
    """Parameters, and rows of projections, that no output depends on."""
    need_own(case)
    module = case.subject.copied().module
    grads = _gradients(case, module, 4, LENGTH)
    largest = max((_size(grad) for grad in grads.values()), default=0.0)
    case.need(largest > 0, "no parameter gets a gradient")
    unused = [name for name, grad in grads.items() if _size(grad) <= NONE * largest and _told(case, name)]
    unused = [name for name in unused if not _matters(case, module, name, torch.ones_like(grads[name]))]
    from_key = _value_from_key(case, grads, unused)
    if from_key:
        yield from_key
    elif unused:
        words = f"no output depends on {', '.join(unused[:3])}: no gradient ever reaches it"
        plain = Finding("unused", "projection-unused", words, 0.0, NONE, data={"names": unused})
        yield _shared_by_heads(case, module, unused) or plain
    else:
        yield from _rows(case, module, grads, largest)


def _told(case: Case, name: str) -> bool:
    """Whether a parameter should matter: not what softmax takes away, and no part that only a memory reaches."""
    if name.endswith(".bias"):
        return False
    own = tuple(f"{part}." for part in case.subject.projections.values())
    return name.startswith(own) or not case.subject.takes_memory or case.declared.cross


def _matters(case: Case, module: nn.Module, name: str, where: Tensor) -> bool:
    """Whether any output moves with those numbers of a parameter, by however hard a choice."""
    subject = replace(case.subject, module=module)
    x, memory = case.tokens(3, LENGTH, seed=72), case.memory(3, LENGTH, seed=72)
    parameter = module.get_parameter(name)
    with torch.no_grad():
        before, kept = subject(x.clone(), memory=memory), parameter.clone()
        parameter.add_(
            torch.randn(parameter.shape, generator=case.generator(73), dtype=torch.float64) * where
        )
        after = subject(x.clone(), memory=memory)
        parameter.copy_(kept)
    return case.off(after, before) > NONE


def _gradients(case: Case, module: nn.Module, batch: int, length: int) -> dict[str, Tensor]:
    """Gradients of a random sum of outputs, at parameters that are none zero by how they were begun."""
    drawn = case.generator(70)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.is_floating_point() and parameter.numel() and not parameter.any():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=drawn, dtype=torch.float64))
    asked = {name: one for name, one in module.named_parameters() if one.requires_grad}
    subject = replace(case.subject, module=module)
    with torch.enable_grad():
        x, memory = 0.5 * case.tokens(batch, length, seed=70), case.memory(batch, length, seed=70)
        output = subject(x, memory=None if memory is None else 0.5 * memory)
        case.need(output.requires_grad, "its output has no gradient")
        probe = torch.randn(output.shape, generator=drawn, dtype=torch.float64).to(output)
        found = torch.autograd.grad((output * probe).sum(), list(asked.values()), allow_unused=True)
    zeros = [
        torch.zeros_like(one) if grad is None else grad
        for one, grad in zip(asked.values(), found, strict=True)
    ]
    return dict(zip(asked, zeros, strict=True))


def _size(grad: Tensor) -> float:
    return grad.nan_to_num().abs().max().item() if grad.numel() else 0.0


def _names(case: Case, role: str) -> str:
    return f"{case.subject.projections.get(role, '')}.weight"


def _value_from_key(case: Case, grads: dict[str, Tensor], unused: list[str]) -> Finding | None:
    """Over one key the output depends on the key's projection, which it must not."""
    key, value = _names(case, "key"), _names(case, "value")
    if key not in grads or value not in grads or value not in unused or not normalised(case):
        return None
    alone = _gradients(case, case.subject.copied().module, 3, 1)
    largest = max(_size(grad) for grad in alone.values())
    if _size(alone[key]) <= 1e-6 * largest:
        return None
    words = f"over one token the output depends on {key}, and never on {value}: the keys are read for values"
    return Finding("unused", "value-from-key", words, _size(alone[key]), 0.0)


def _shared_by_heads(case: Case, module: nn.Module, unused: list[str]) -> Finding | None:
    """A projection of one head's numbers that is called for every head, in the place of one that is not called."""
    heads = case.declared.num_heads
    if not heads or not any(
        name in unused for name in (_names(case, role) for role in ("query", "key", "value"))
    ):
        return None
    size = case.subject.d_in // heads
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear) and part.in_features == part.out_features == size and heads > 1:
            words = (
                f"{name} projects {size} numbers, and serves all {heads} heads in the place of {unused[0]}"
            )
            return Finding("unused", "heads-mixed", words, 0.0, NONE)
    return None


def _rows(case: Case, module: nn.Module, grads: dict[str, Tensor], largest: float) -> Iterator[Finding]:
    for name, part in module.named_modules():
        grad = grads.get(f"{name}.weight")
        if not isinstance(part, nn.Linear) or grad is None:
            continue
        for what, axis in (("outputs", 1), ("inputs", 0)):
            dead = (grad.abs().amax(axis) <= NONE * largest).nonzero().flatten().tolist()
            where = (grad.abs().amax(axis, keepdim=True) <= NONE * largest).expand_as(grad).double()
            if _is_tail(case, name, dead, grad.shape[1 - axis]):
                continue
            if 0 < len(dead) < grad.shape[1 - axis] and not _matters(case, module, f"{name}.weight", where):
                some = ", ".join(str(i) for i in dead[:4]) + (", ..." if len(dead) > 4 else "")
                words = f"{len(dead)} of {grad.shape[1 - axis]} {what} of {name} are never used: {some}"
                yield Finding("unused", "projection-unused", words, 0.0, NONE, data={"names": [name]})
                return


def _is_tail(case: Case, name: str, dead: list[int], size: int) -> bool:
    """Whether what is unused are the places behind the last token, in a matrix over places such as Linformer's."""
    return name not in case.subject.projections.values() and dead == list(range(LENGTH, size))


def run_inputs(case: Case) -> Iterator[Finding]:
    """With a memory, queries are made of the tokens, and keys and values of the memory, also where both are as long."""
    case.need(case.declared.cross, "it reads no memory")
    names = case.subject.projections
    case.need({"query", "key", "value"} <= set(names), "its projections are not known")
    for kv_len in (6, 4):
        found = _given(case, 4, kv_len)
        for role, (by_tokens, by_memory) in found.items():
            wrong = by_memory and not by_tokens if role == "query" else by_tokens and not by_memory
            if not wrong:
                continue
            own, other = ("tokens", "memory") if role == "query" else ("memory", "tokens")
            fault = "query-key-swapped" if role == "query" else "value-from-key"
            yield Finding(
                "inputs",
                fault,
                f"{names[role]} is given the {other}, not the {own}, for 4 tokens and a memory of {kv_len}",
                1.0,
                0.0,
            )
            return


def _given(case: Case, q_len: int, kv_len: int) -> dict[str, tuple[bool, bool]]:
    """For each projection, whether what it is given depends on the tokens, and on the memory."""
    subject = case.subject.copied()
    found: dict[str, tuple[bool, bool]] = {}
    x, memory = case.tokens(2, q_len, seed=71).requires_grad_(), case.memory(2, kv_len, seed=71)
    assert memory is not None
    memory.requires_grad_()
    calls: dict[str, list[Tensor]] = {role: [] for role in ("query", "key", "value")}

    def watch(role: str) -> RemovableHandle:
        part = subject.module.get_submodule(subject.projections[role])

        def shown(_: nn.Module, given: Any, output: Any) -> None:
            calls[role].append(output)

        return part.register_forward_hook(shown)

    handles = [watch(role) for role in calls]
    try:
        with torch.enable_grad():
            subject(x, memory=memory)
            for role, outputs in calls.items():
                if outputs and outputs[-1].requires_grad:
                    grads = torch.autograd.grad(
                        outputs[-1].sum(), (x, memory), retain_graph=True, allow_unused=True
                    )
                    found[role] = tuple(grad is not None and bool(grad.any()) for grad in grads)  # pyright: ignore[reportArgumentType]
    finally:
        for handle in handles:
            handle.remove()
    return found


def run_roles(case: Case) -> Iterator[Finding]:
    """The last query is asked by its own query, over the keys of others."""
    probe = probe_of(case)
    length = 3
    query, key, value = (probe.drawn(role, 2, length, seed=8) for role in ("query", "key", "value"))
    base = probe(query, key, value)
    case.need(probe.apart, "its samples are not apart, which comes first")
    by_query = _moves(probe, base, probe.drawn("query", 2, length, seed=9), key, value, query)
    other = key.clone()
    other[:, 0] = probe.drawn("key", 2, length, seed=9)[:, 0]
    by_key = (probe(query, other, value) - base)[:, -1].abs().max().item() > NONE
    if by_query and not by_key:
        words = "the last output moves with the first token's query, and not with its key: scores are key times query"
        yield Finding("roles", "query-key-swapped", words, 1.0, 0.0)


def _moves(probe: Probe, base: Tensor, drawn: Tensor, key: Tensor, value: Tensor, query: Tensor) -> bool:
    """Whether the last context moves with the first query."""
    other = query.clone()
    other[:, 0] = drawn[:, 0]
    return (probe(other, key, value) - base)[:, -1].abs().max().item() > NONE


CHECKS = (
    Check("unused", "basic", run_unused, "every projection gets a gradient", ROLES),
    Check(
        "inputs", "basic", run_inputs, "queries are made of the tokens, keys and values of the memory", ROLES
    ),
    Check("roles", "basic", run_roles, "a query asks for itself, over the keys of others", ROLES),
)
