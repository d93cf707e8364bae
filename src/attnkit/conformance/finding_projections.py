"""Where query, key and value come out of a module, and where the merged context goes in.

Apart in three projections, in one of three parts (`qkv`), in two and one (`kv`), or inside `nn.MultiheadAttention`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attnkit.conformance.case import Case, Skip
from attnkit.conformance.subject import Subject

FUSED = ("qkv", "c_attn", "in_proj", "query_key_value", "Wqkv", "W_qkv", "to_qkv", "qkv_proj", "c_qkv")
FUSED_KV = ("kv", "to_kv", "kv_proj", "c_kv", "key_value", "W_kv")
OUTPUTS = ("output", "out_proj", "o_proj", "W_o", "wo", "to_out", "proj", "out", "out_lin", "c_proj", "dense")


@dataclass(frozen=True)
class Slot:
    """Where the numbers of some roles come out.

    Attributes:
        name: of the submodule.
        parts: for each role, which of how many equal parts of its output: (0, 1) for all of it.
    """

    name: str
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)

    def joined(self, other: "Slot") -> "Slot":
        """The same for the roles of both."""
        return Slot(self.name, self.parts | other.parts)

    def width(self, whole: int) -> int:
        """How many numbers a role has of all that come out."""
        ((_, of),) = self.parts.values()
        return whole // of

    def watch(self, module: nn.Module, see: Callable[[Tensor], Any]) -> RemovableHandle:
        """Show what comes out."""
        part = module.get_submodule(self.name)
        if isinstance(part, nn.MultiheadAttention):
            return part.register_forward_hook(lambda _, given, output: see(output[0]))

        def shown(_: nn.Module, given: Any, output: Any) -> None:
            see(output)

        return part.register_forward_hook(shown)

    def put(self, module: nn.Module, given: dict[str, Tensor], time_first: bool) -> RemovableHandle:
        """Replace what comes out by what is given for each role."""
        part = module.get_submodule(self.name)
        given = {role: (one.transpose(0, 1) if time_first else one) for role, one in given.items()}
        if isinstance(part, nn.MultiheadAttention):
            return part.register_forward_pre_hook(_arguments(given), with_kwargs=True)

        def hook(part: nn.Module, inputs: Any, output: Any) -> Tensor:
            whole = list(output.chunk(max(of for _, of in self.parts.values()), -1))
            for role, (number, _of) in self.parts.items():
                whole[number] = given[role].to(output.dtype)
            return torch.cat(whole, -1)

        return part.register_forward_hook(hook)


def _arguments(given: dict[str, Tensor]) -> Callable[..., Any]:
    def hook(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
        rest = {name: one for name, one in named.items() if name not in given}
        return (*(given[role] for role in ("query", "key", "value")), *positional[3:]), rest

    return hook


def context_of(module: nn.Module, read: str, see: Callable[[Tensor], Any]) -> RemovableHandle:
    """Show the context that a submodule is given, or that `nn.MultiheadAttention` gives; "" is never shown."""
    part = module.get_submodule(read) if read else module
    if not read and not isinstance(part, nn.MultiheadAttention):
        return part.register_forward_hook(lambda *_: None)
    if isinstance(part, nn.MultiheadAttention):
        return part.register_forward_hook(lambda _, given, output: see(output[0]))
    return part.register_forward_pre_hook(lambda _, given: see(given[0]))


def slots_of(case: Case, subject: Subject) -> tuple[dict[str, Slot], str]:
    """Where each role comes out, and the name of what is given the context.

    Raises:
        Skip: that cannot be told.
    """
    own = dict(subject.module.named_modules())
    fused = [name for name, part in own.items() if isinstance(part, nn.MultiheadAttention)]
    if len(fused) == 1:
        part = own[fused[0]]
        assert isinstance(part, nn.MultiheadAttention)
        case.need(part.kdim == part.vdim == part.embed_dim, "its keys and queries are made of other widths")
        _unite(part)
        return {role: Slot(fused[0], {role: (0, 1)}) for role in ("query", "key", "value")}, fused[0]
    slots = _apart(case, own) or _together(own)
    if slots is None:
        raise Skip("its projections are not known; name all four, projections={'query': ..., 'output': ...}")
    return slots, _output(case, own, slots["query"].name)


def _unite(module: nn.Module) -> None:
    """Make the projections of an `nn.MultiheadAttention` give what they are given."""
    assert isinstance(module, nn.MultiheadAttention)
    same = torch.eye(module.embed_dim, dtype=torch.float64)
    with torch.no_grad():
        if module.in_proj_weight is not None:
            module.in_proj_weight.copy_(same.repeat(3, 1))
        else:
            for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
                setattr(module, name, nn.Parameter(same.clone()))
        module.out_proj.weight.copy_(same)
        for bias in (module.in_proj_bias, module.out_proj.bias):
            if bias is not None:
                bias.zero_()


def _apart(case: Case, own: dict[str, nn.Module]) -> dict[str, Slot] | None:
    names, told = case.subject.projections, case.declared.projections or {}
    if not {"query", "key", "value"} <= set(names):
        return None
    for role in ("query", "key", "value"):
        last = names[role].split(".")[-1]
        same = sum(name.split(".")[-1] == last for name in own)
        if same > 1 and role not in told:
            raise Skip(
                f"it has {same} submodules called {last}; say which with projections={{'{role}': ...}}"
            )
    if len({names[role] for role in ("query", "key", "value")}) < 3:
        raise Skip("its projections are one and the same")
    return {role: Slot(names[role], {role: (0, 1)}) for role in ("query", "key", "value")}


def _together(own: dict[str, nn.Module]) -> dict[str, Slot] | None:
    def called(names: tuple[str, ...]) -> list[str]:
        return [name for name in own if name.split(".")[-1] in names]

    whole, pairs = called(FUSED), called(FUSED_KV)
    if len(whole) == 1:
        return {role: Slot(whole[0], {role: (i, 3)}) for i, role in enumerate(("query", "key", "value"))}
    queries = called(("query", "W_query", "q_proj", "W_q", "wq", "to_q", "q"))
    if len(pairs) == 1 and len(queries) == 1:
        slots = {role: Slot(pairs[0], {role: (i, 2)}) for i, role in enumerate(("key", "value"))}
        return {"query": Slot(queries[0], {"query": (0, 1)})} | slots
    if max(len(whole), len(pairs)) > 1:
        raise Skip("it has several fused projections; check one layer at a time")
    return None


def _output(case: Case, own: dict[str, nn.Module], query: str) -> str:
    """The output projection: as it was told, else one that stands beside the query's."""
    told = (case.declared.projections or {}).get("output")
    if told is not None:
        return told
    beside = query.rpartition(".")[0]
    for name in OUTPUTS:
        wanted = f"{beside}.{name}" if beside else name
        if wanted in own:
            return wanted
    return ""
