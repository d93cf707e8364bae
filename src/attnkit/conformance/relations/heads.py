"""Which numbers belong to which head, on the way in and on the way out, and which key head a query head reads.

context[t, (h, i)] = sum over s of w[h, t, s] value[s, (g, i)]          g = h // (num_heads // num_kv_heads)
score[h, t, s] = scale * sum over i of query[t, (h, i)] key[s, (g, i)]
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from attnkit.conformance.case import Case, Check, Skip
from attnkit.conformance.claims import need_own
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import HEADS
from attnkit.conformance.probe import probe_of
from attnkit.conformance.readings import SURE, pairs, value_map


def head_sizes(case: Case) -> tuple[int, int]:
    """How many heads a query has, and of how many numbers: as declared, else as found.

    Raises:
        Skip: neither.
    """
    width = probe_of(case).widths["query"]
    heads = case.declared.num_heads or case.facts.get("num_heads") or _found(pairs(case))
    if not heads or width % heads:
        raise Skip("how many heads it has cannot be told; say num_heads=...")
    case.facts["num_heads"] = heads
    return heads, width // heads


def _found(table: Tensor) -> int | None:
    """Heads by which numbers of a query each number of the context depends on."""
    seen = (table.abs() > SURE * 10 * table.abs().max()).any(1).mT  # context, query
    sizes = set(seen.sum(-1).tolist())
    if len(sizes) != 1 or 0 in sizes:
        return None
    (size,) = sizes
    return table.shape[0] // size if table.shape[0] % size == 0 else None


def run_heads(case: Case) -> Iterator[Finding]:
    """Values first: what reads scores needs them where they belong."""
    need_own(case)
    case.need("rows_fault" not in case.facts, "its weights do not sum to one, which comes first")
    found = value_map(case)
    fault = scrambled(case, found.size) if found.source is None else None
    if fault is None and found.source is not None:
        fault = _misplaced(case, found.source)
    if fault is None and found.source is not None:
        fault = _paired_wrong(case)
    if fault is not None:
        name, words = fault
        case.facts["heads_fault"] = name
        yield Finding("heads", name, words, 1.0, 0.0)


def scrambled(case: Case, size: Tensor) -> tuple[str, str]:
    """A number of the context is made of several numbers of values, or of others for each token."""
    seen = size.abs() > SURE * 1e-3 * size.abs().max()  # q_len, width, kv_len, value
    reach, visible = seen.any(-1), seen.any(-1).any(1)
    empty = (~reach.any(2).any(0)).nonzero().flatten().tolist()
    if empty:
        return "projection-unused", f"numbers {_few(empty)} of the context are zero whatever the values are"
    t, c = (
        (int(i) for i in (seen.any(2).sum(-1) > 1).nonzero()[0])
        if (seen.any(2).sum(-1) > 1).any()
        else (0, 0)
    )
    numbers = seen[t, c].any(0).nonzero().flatten().tolist()
    told = f"number {c} of the context is made of numbers {_few(numbers)} of the values"
    if (seen.any(2).sum(-1) <= 1).all():
        return "heads-merged-wrong", _merged_words(seen)
    even = reach.all(1) | ~visible
    if even.all():
        return _mixing(case, seen, told)
    return "heads-split-wrong", f"{told}, others for each token: heads are cut across tokens"


def _merged_words(seen: Tensor) -> str:
    source = seen.any(2).long().argmax(-1)  # q_len, width
    c = int((source != source[:1]).any(0).long().argmax())
    first, last = (int(source[t, c]) for t in (0, -1))
    return (
        f"number {c} of the context is made of number {first} of the values for the first token and of number {last} "
        "for the last: heads are joined without moving them beside their token first"
    )


def _mixing(case: Case, seen: Tensor, told: str) -> tuple[str, str]:
    anywhere = seen.any(2).any(0)  # width, value
    heads = case.declared.num_heads or case.facts.get("num_heads")
    width = anywhere.shape[1]
    groups = case.declared.num_kv_heads or heads
    if groups and width % groups == 0:
        head = torch.arange(width) // (width // groups)
        inside = all(len(head[row].unique()) == 1 for row in anywhere)
        same = (seen.any(1, keepdim=True) == 0) | (seen == anywhere[None, :, None])
        if inside and not same.all():
            return (
                "position-on-value",
                f"{told}, more of one or the other by place: positions act on the values",
            )
        if inside:
            return "heads-mixed", f"{told}, all of one head"
    return "heads-mixed", f"{told}, of several heads"


def _misplaced(case: Case, source: Tensor) -> tuple[str, str] | None:
    """Each number of the context is one of the values, but not its own."""
    probe = probe_of(case)
    width, wide = probe.widths["context"], probe.widths["value"]
    if width == wide and (source == torch.arange(width)).all():
        return None
    try:
        heads, _ = head_sizes(case)
    except Skip:
        return None
    if width % heads:
        return None
    size = width // heads
    own = torch.arange(width)
    wanted = own // size // max(width // wide, 1) * size + own % size
    if width % wide == 0 and (source == wanted).all():
        return None
    c = int((source != wanted).long().argmax()) if width % wide == 0 else 0
    told = f"number {c} of the context, of head {c // size}, is number {int(source[c])} of the values"
    head_of, number_of = source // size, source % size
    whole = (number_of == own % size).all() and all(
        len(part.unique()) == 1 for part in head_of.view(heads, size)
    )
    if not whole:
        return "heads-merged-wrong", f"{told}, not number {int(wanted[c])}: head and number are exchanged"
    order = head_of.view(heads, size)[:, 0].tolist()
    if width != wide:
        return "grouped-heads-tiled", _tiled("values", order, heads, wide // size)
    if len(set(order)) < heads:
        return "heads-mixed", f"the heads' values are those of heads {order}"
    return "heads-merged-wrong", f"the heads' contexts stand in the order {order}"


def _tiled(what: str, order: list[int], heads: int, groups: int) -> str:
    right = [h // (heads // groups) for h in range(heads)]
    return f"heads 0 to {heads - 1} read the {what} of heads {order}; h // {heads // groups} is {right}"


def _paired_wrong(case: Case) -> tuple[str, str] | None:
    """Numbers of a query meet those of a key that are not in the head's block, or not in the same place."""
    table = pairs(case)  # query, key, context
    heads, size = head_sizes(case)
    width = table.shape[-1]
    case.need(width % heads == 0 and table.shape[1] % size == 0, "its heads are not of one width")
    groups = table.shape[1] // size
    seen = table.abs() > SURE * 10 * table.abs().max()
    if _relabelled(seen):
        return None
    queries = _blocks(seen.any(1), heads)  # head, block of the query
    keys = _blocks(seen.any(0), groups, heads)
    own = torch.arange(heads)
    if not (queries == torch.eye(heads).bool()).all():
        h = int((queries != torch.eye(heads).bool()).any(-1).long().argmax())
        if not queries[h].any():
            return None
        return (
            "heads-mixed",
            f"head {h} weighs by the queries of heads {_few(queries[h].nonzero().flatten().tolist())}",
        )
    if (keys.sum(-1) > 1).any():
        h = int(keys.sum(-1).argmax())
        return (
            "heads-split-wrong",
            f"a query of head {h} meets keys of heads {_few(keys[h].nonzero().flatten().tolist())}",
        )
    order = keys.long().argmax(-1)
    if (order != own // (heads // groups)).any():
        if groups < heads:
            return "grouped-heads-tiled", _tiled("keys", order.tolist(), heads, groups)
        return "heads-mixed", f"the heads read the keys of heads {order.tolist()}"
    return _numbers_wrong(case, seen, size)


def _relabelled(seen: Tensor) -> bool:
    """Whether query, key and context cut heads in one way, whatever that is: names of numbers, no fault."""
    if seen.shape[0] != seen.shape[1] or seen.shape[0] != seen.shape[2]:
        return False
    query, key = seen.any(1), seen.any(0)
    together = query.mT  # context, query
    equal = (together[:, None] == together[None]).all(-1)
    return bool((query == key).all() and (together == equal).all() and not _contiguous(together))


def _contiguous(together: Tensor) -> bool:
    size = int(together[0].sum())
    own = torch.arange(len(together)) // max(size, 1)
    return bool((together == (own[:, None] == own[None])).all())


def _blocks(seen: Tensor, blocks: int, heads: int | None = None) -> Tensor:
    """For each head, which blocks of `seen` (numbers, context) it depends on."""
    return seen.view(blocks, -1, heads or blocks, seen.shape[1] // (heads or blocks)).any(1).any(-1).mT


def _numbers_wrong(case: Case, seen: Tensor, size: int) -> tuple[str, str] | None:
    block = seen[:size, :size].any(-1)
    if (
        not (block.sum(0) == 1).all()
        or not (block.sum(1) == 1).all()
        or (block == torch.eye(size).bool()).all()
    ):
        return None
    i = int((block.long().argmax(-1) != torch.arange(size)).long().argmax())
    j = int(block[i].long().argmax())
    return "heads-split-wrong", f"number {i} of a query's head meets number {j} of the key's"


def _few(numbers: list[int]) -> str:
    return ", ".join(str(i) for i in numbers[:4]) + (", ..." if len(numbers) > 4 else "")


CHECKS = (
    Check(
        "heads",
        "basic",
        run_heads,
        "each head has its own numbers of query, key, value and context",
        HEADS,
    ),
)
