"""How commands print: paragraphs that fit the terminal, numbers that can be read, values as JSON."""

import json
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from attnkit.errors import AttentionError

_WIDEST = 100
_UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@contextmanager
def wrong_usage() -> Iterator[None]:
    """What attnkit refuses in here is wrong usage of the command: exit status 2."""
    try:
        yield
    except AttentionError as refusal:
        raise click.UsageError(str(refusal), click.get_current_context(silent=True)) from refusal


def width() -> int:
    """How many columns a line may have."""
    return min(shutil.get_terminal_size().columns, _WIDEST)


def paragraphs(text: str) -> str:
    """Text whose paragraphs are wrapped; what is indented is a formula, and stays as it is."""
    blocks = re.split(r"\n\s*\n", text)
    return "\n\n".join(
        block if block.startswith("    ") else textwrap.fill(" ".join(block.split()), width())
        for block in blocks
    )


def table(rows: Iterable[tuple[str, str]], *, indent: int = 2) -> str:
    """Two columns: names, and what is said of them, wrapped beside."""
    listed = list(rows)
    column = indent + max((len(name) for name, _ in listed), default=0) + 2
    lines: list[str] = []
    for name, said in listed:
        head = f"{' ' * indent}{name}".ljust(column)
        room = max(width(), column + 30)
        lines.append(
            textwrap.fill(said, room, initial_indent=head, subsequent_indent=" " * column)
            if said
            else head.rstrip()
        )
    return "\n".join(lines)


def columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Numbers under their names, all to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    return "\n".join(
        "  " + "   ".join(cell.rjust(size) for cell, size in zip(line, widths, strict=True)) for line in lines
    )


def amount(number: int | float) -> str:
    """A number in three digits and a unit: 12.6 M."""
    for size, unit in _UNITS:
        if number >= size:
            return f"{float(f'{number / size:.3g}'):,g} {unit}"
    return f"{number:,.0f}"


def as_json(told: Any) -> str:
    """JSON of plain values; what is none of them becomes its text."""
    return json.dumps(_plain(told), indent=2, ensure_ascii=False)


def _plain(told: Any) -> Any:
    if isinstance(told, Mapping):
        return {str(name): _plain(value) for name, value in told.items()}
    if isinstance(told, list | tuple):
        return [_plain(value) for value in told]
    return told if told is None or isinstance(told, bool | int | float | str) else repr(told)
