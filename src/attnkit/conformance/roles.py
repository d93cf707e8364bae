"""Where query, key, value and output have their weights in a target: apart, in one projection, or bare.

A projection of all three holds them one under another, or, as in GPT-NeoX and Bloom, a head's three together. Nothing
in a module tells which, so both are given.
"""

from collections.abc import Iterator, Sequence

from torch import nn

from attnkit.conformance.adapters.making import NAMES
from attnkit.conformance.case import Case
from attnkit.conformance.finding_projections import FUSED, FUSED_KV, OUTPUTS
from attnkit.conformance.places import Piece, Place, is_turned

THREE = ("query", "key", "value")
Roles = dict[str, Place]  # by the parameter of a layer of ours, such as "query.weight"


def roles_of(case: Case, heads: int) -> list[Roles]:
    """The places of each role's weight and bias, as far as they are found; the likeliest arrangement first."""
    module = case.subject.module
    attentions = [
        (name, one) for name, one in module.named_modules() if isinstance(one, nn.MultiheadAttention)
    ]
    if len(attentions) == 1:
        return [_of_torch(*attentions[0])]
    found = _apart(case)
    shared = [] if {"query.weight", "key.weight", "value.weight"} <= set(found) else _fused(case, heads)
    beside = _output(case, found, shared)
    return [{**rows, **found, **beside} for rows in shared] or [{**found, **beside}]


def heads_of(case: Case) -> int | None:
    """How many heads a query has, by what was said, or by the one number that parts or their config have for it."""
    usual = ("num_heads", "n_heads", "n_head", "num_attention_heads", "heads", "nhead", "h")
    parts = list(case.subject.module.modules())
    holders = [*parts, *(part.config for part in parts if hasattr(part, "config"))]
    held = {getattr(holder, name, None) for holder in holders for name in usual}
    counts = {one for one in held if isinstance(one, int) and not isinstance(one, bool)}
    return case.declared.num_heads or (counts.pop() if len(counts) == 1 else None)


def _of_torch(name: str, module: nn.MultiheadAttention) -> Roles:
    prefix, width = f"{name}." if name else "", module.embed_dim
    thirds = [tuple(range(i * width, (i + 1) * width)) for i in range(3)]
    found = _named("output", f"{prefix}out_proj", module.out_proj)
    for role, letter, rows in zip(THREE, "qkv", thirds, strict=True):
        whole = module.in_proj_weight is not None
        piece = Piece(f"{prefix}in_proj_weight", rows) if whole else Piece(f"{prefix}{letter}_proj_weight")
        found[f"{role}.weight"] = Place((piece,))
        if module.in_proj_bias is not None:
            found[f"{role}.bias"] = Place((Piece(f"{prefix}in_proj_bias", rows),))
    return found


def _named(role: str, name: str, part: nn.Module, rows: tuple[int, ...] | None = None) -> Roles:
    """The weight and the bias of a submodule, or some rows of each."""
    tensors = [leaf for leaf in ("weight", "bias") if isinstance(getattr(part, leaf, None), nn.Parameter)]
    turned = "weight" in tensors and is_turned(part, "weight")
    return {
        f"{role}.{leaf}": Place((Piece(f"{name}.{leaf}", rows, turned and leaf == "weight"),))
        for leaf in tensors
    }


def _apart(case: Case) -> Roles:
    module, names = case.subject.module, case.subject.projections
    found: Roles = {}
    for role in THREE:
        if role in names and sum(names.get(other) == names[role] for other in THREE) == 1:
            found |= _named(role, names[role], module.get_submodule(names[role]))
    bare = {name.split(".")[-1]: name for name, one in module.named_parameters() if one.ndim == 2}
    for role in (*THREE, "output"):
        name = next((bare[usual] for usual in NAMES[role] if usual in bare), None)
        if name is not None and f"{role}.weight" not in found:
            found[f"{role}.weight"] = Place((Piece(name, turned=True),))
    return found


def _fused(case: Case, heads: int) -> list[Roles]:
    module = case.subject.module
    for names, roles in ((FUSED, THREE), (FUSED_KV, THREE[1:])):
        parts = [(name, one) for name, one in module.named_modules() if name.split(".")[-1] in names]
        if len(parts) == 1 and isinstance(getattr(parts[0][1], "weight", None), nn.Parameter):
            name, part = parts[0]
            return [_rows(name, part, roles, rows) for rows in _arranged(case, part, heads, roles)]
    return []


def _rows(name: str, part: nn.Module, roles: Sequence[str], rows: Sequence[tuple[int, ...]]) -> Roles:
    found: Roles = {}
    for role, some in zip(roles, rows, strict=True):
        found |= _named(role, name, part, some)
    return found


def _arranged(
    case: Case, part: nn.Module, heads: int, roles: Sequence[str]
) -> Iterator[list[tuple[int, ...]]]:
    """The rows of each role, one role under another, then a group of heads under another."""
    weight = part.get_parameter("weight")
    whole, groups = weight.shape[1 if is_turned(part, "weight") else 0], case.declared.num_kv_heads or heads
    counts = [heads // groups if role == "query" else 1 for role in roles]  # heads in a group
    size = whole // (groups * sum(counts))
    if size * groups * sum(counts) != whole:
        return
    for group_first in (False, True):
        order: list[list[int]] = [[] for _ in roles]
        blocks = (
            [(g, role) for g in range(groups) for role in range(len(roles))]
            if group_first
            else [(g, role) for role in range(len(roles)) for g in range(groups)]
        )
        start = 0
        for _, role in blocks:
            order[role] += range(start, start + counts[role] * size)
            start += counts[role] * size
        yield [tuple(rows) for rows in order]


def _output(case: Case, found: Roles, fused: list[Roles]) -> Roles:
    """The output projection: as it was told, or one of a usual name beside the query's."""
    module = case.subject.module
    own = dict(module.named_modules())
    told = (case.declared.projections or {}).get("output")
    query = (found | (fused[0] if fused else {})).get("query.weight")
    beside = query.pieces[0].name.rpartition(".")[0].rpartition(".")[0] if query else ""
    names = [told] if told else [f"{beside}.{name}" if beside else name for name in OUTPUTS]
    name = next(
        (name for name in names if isinstance(getattr(own.get(name), "weight", None), nn.Parameter)), None
    )
    return {} if name is None else _named("output", name, own[name])
