"""What a mechanism costs, in a paragraph and a table; the numbers are those of `attnkit show`."""

import math

from attnkit.atlas import Cost, Costs, costs, layer_of, why_undecodable
from attnkit.errors import AttentionError
from attnkit.mechanism import Mechanism


def section(mechanism: Mechanism) -> str:
    """Markdown: what is learned, how work grows with the length, and what decoding holds."""
    try:
        cost = costs(mechanism.bind(mechanism.examples[0]))
    except AttentionError as refused:
        return f"```text\n{refused}\n```"
    layer = layer_of(mechanism.bind(mechanism.examples[0]))
    size = (
        f"A layer that is {layer.d_model} wide, with {layer.num_heads} heads, learns {cost.parameters:,} numbers, the "
        f"four projections included. {_growth(cost)}"
    )
    counted = f"Operations are multiplications and additions, counted so: {cost.how}."
    return "\n\n".join([_decoding(cost), size, _table(cost), counted])


def decodes(mechanism: Mechanism) -> bool:
    """Whether a layer of its first example can be given one token after the other."""
    return why_undecodable(layer_of(mechanism.bind(mechanism.examples[0]))) is None


def _decoding(cost: Costs) -> str:
    if cost.undecodable is not None:
        return f"**One token after the other**: no. {cost.undecodable}."
    held = {row.cache_bytes for row in cost.rows}
    grows = "a cache that grows with the text" if len(held) > 1 else "a state or cache of fixed size"
    return f"**One token after the other**: yes, from {grows}."


def _growth(cost: Costs) -> str:
    if cost.power is None:
        return "How its operations grow is not known, since its mask was told of a few positions only."
    if cost.is_linear:
        return "Its operations grow as the length."
    if abs(cost.power - 2) < 0.05:
        return "Its operations grow as the square of the length."
    return f"Its operations grow as the length to the power of {cost.power:.2f}."


def _table(cost: Costs) -> str:
    held = cost.undecodable is None
    head = "| tokens | operations |" + (" bytes in the cache |" if held else "")
    line = "|--:|--:|" + ("--:|" if held else "")
    return "\n".join([head, line, *(_row(row) for row in cost.rows)])


def _row(row: Cost) -> str:
    held = f" {row.cache_bytes:,.0f} |" if row.cache_bytes is not None else ""
    return f"| {row.length:,} | {_count(row.operations)} |{held}"


def _count(number: float) -> str:
    """Three digits, and a power of ten that has a name."""
    for power, name in ((9, "billion"), (6, "million"), (3, "thousand")):
        if number >= 10**power:
            digits = max(0, 2 - int(math.log10(number / 10**power)))
            return f"{number / 10**power:.{digits}f} {name}"
    return f"{number:.0f}"
