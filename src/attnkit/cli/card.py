"""What `attnkit show` prints of one mechanism, as text and as JSON."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from attnkit.atlas import Cost, Costs, Reduction, Sketch, costs, fitted, reductions
from attnkit.catalog import FAMILIES, all_mechanisms, package_of
from attnkit.cli.words import amount, columns, paragraphs, table, width
from attnkit.errors import AttentionError
from attnkit.layers.attention import Attention
from attnkit.mechanism import Bound, Learned, Mechanism, Option, Projected


@dataclass(frozen=True)
class Card:
    """One mechanism with its options.

    Attributes:
        bound: the mechanism and its options.
        layer: a layer of it.
        sketch: its weights.
        lengths: where its cost is told; some that show how it grows when empty.
    """

    bound: Bound
    layer: Attention
    sketch: Sketch
    lengths: Sequence[int]

    @property
    def mechanism(self) -> Mechanism:
        """Which one."""
        return self.bound.mechanism

    @cached_property
    def cost(self) -> Costs | AttentionError:
        """What a layer costs, or why that cannot be told."""
        try:
            return costs(self.bound, self.lengths)
        except AttentionError as refusal:
            return refusal

    @cached_property
    def kin(self) -> tuple[Reduction, ...]:
        """What it becomes, and what becomes it."""
        name = self.mechanism.name
        return tuple(r for r in reductions(all_mechanisms()) if name in (r.source, r.target))

    @property
    def told(self) -> dict[str, Any]:
        """All of it as plain values."""
        mechanism, cost = self.mechanism, self.cost
        return {
            "name": mechanism.name,
            "family": mechanism.family,
            "summary": mechanism.summary,
            "formula": mechanism.formula,
            "text": mechanism.text,
            "paper": vars(mechanism.paper),
            "package": package_of(mechanism),
            "options": [self._option(option) for option in mechanism.options],
            "parts": [self._part(part) for part in mechanism.parts],
            "weights": {"heads": self.sketch.heads, "values": self.sketch.weights.tolist()},
            "cost": {"refused": str(cost)} if isinstance(cost, AttentionError) else _as_values(cost),
            "reductions": [vars(reduction) for reduction in self.kin],
        }

    def __str__(self) -> str:
        mechanism, package = self.mechanism, package_of(self.mechanism)
        family = f"{mechanism.family}: {FAMILIES[mechanism.family]}"
        head = f"{mechanism.name}{family.rjust(width() - len(mechanism.name))}"
        paper = mechanism.paper
        source = f"{paper.title}, {paper.year}" + (f", {paper.equation}" if paper.equation else "")
        blocks = [
            head + (f"\nof the package {package}" if package else ""),
            paragraphs(mechanism.text or mechanism.formula),
            f"{paragraphs(source)}\n{paper.url}",
            _section("options", [self._option_row(option) for option in mechanism.options]),
            _section(
                "learned or projected besides query, key and value",
                [self._part_row(part) for part in mechanism.parts],
            ),
            f"weights ({self._drawn})\n\n{self.sketch}",
            f"cost of a layer: {self._cost}",
            _section("it becomes", [(r.target, r.condition) for r in self.kin if r.source == mechanism.name]),
            _section(
                "what becomes it", [(r.source, r.condition) for r in self.kin if r.target == mechanism.name]
            ),
            f"layer = attnkit.Attention({self._arguments})",
        ]
        return "\n\n".join(block for block in blocks if block)

    @property
    def _drawn(self) -> str:
        tokens = self.sketch.weights.shape[-2]
        settings = _set(fitted(self.bound, tokens))
        return ", ".join([f"drawn by a seed, {tokens} tokens", *settings])

    @property
    def _arguments(self) -> str:
        return ", ".join(["512", "8", f'mechanism="{self.mechanism.name}"', *_set(self.bound)])

    @property
    def _cost(self) -> str:
        sizes = f"{self.layer.d_model} wide, {self.layer.num_heads} heads of {self.layer.head_dim}"
        if isinstance(self.cost, AttentionError):
            return f"{sizes}\n{table([('', str(self.cost))])}"
        decodes = self.cost.undecodable is None
        rows = [
            ("parameters", f"{self.cost.parameters:,}, the four projections included"),
            ("operations", f"{self.cost.how}; {_growth(self.cost)}"),
            (
                "decodes",
                "one token after the other, from a cache" if decodes else f"no: {self.cost.undecodable}",
            ),
        ]
        return f"{sizes}\n{table(rows)}\n\n{_by_length(self.cost)}"

    def _option(self, option: Option) -> dict[str, Any]:
        told = {
            "name": option.name,
            "kind": _kind(option),
            "required": option.required,
            "meaning": option.meaning,
        }
        return told | {
            "default": None if option.required else option.default,
            "value": self.bound.options[option.name],
        }

    def _option_row(self, option: Option) -> tuple[str, str]:
        default = "must be set" if option.required else f"{option.default!r} if not set"
        here = self.bound.options[option.name]
        shown = f", {here!r} here" if option.required or repr(here) != repr(option.default) else ""
        return option.name, f"{_kind(option)}, {default}{shown}. {_sentence(option.meaning)}"

    def _part(self, part: Learned | Projected) -> dict[str, Any]:
        if isinstance(part, Learned):
            shape = part.sizes(self.layer.sizes, self.bound.options)
            return {"name": part.name, "kind": "learned", "shape": shape, "meaning": part.meaning}
        extents = (self.layer.sizes.of(extent, self.bound.options) for extent in (part.heads, part.width))
        return {
            "name": part.name,
            "kind": f"projected from the {part.of}",
            "shape": tuple(extents),
            "meaning": part.meaning,
        }

    def _part_row(self, part: Learned | Projected) -> tuple[str, str]:
        told = self._part(part)
        axes = " x ".join(map(str, told["shape"]))
        return part.name, f"{told['kind']}, {axes}. {_sentence(part.meaning)}"


def _set(bound: Bound) -> list[str]:
    """The options that have not their defaults, as they are written in a call."""
    defaults = {option.name: option.default for option in bound.mechanism.options}
    return [
        f"{name}={value!r}" for name, value in bound.options.items() if repr(value) != repr(defaults[name])
    ]


def _section(title: str, rows: list[tuple[str, str]]) -> str:
    return f"{title}\n{table(rows)}" if rows else ""


def _sentence(meaning: str) -> str:
    return f"{meaning[:1].upper()}{meaning[1:]}." if meaning else ""


def _kind(option: Option) -> str:
    return re.sub(r"\w+\.", "", option.kind)


def _growth(cost: Costs) -> str:
    if cost.power is None:
        return "how they grow is not known, since its mask was told of a few positions only"
    if cost.is_linear:
        return "they grow as the length"
    return (
        "they grow as the square of the length"
        if abs(cost.power - 2) < 0.05
        else f"they grow as length^{cost.power:.2f}"
    )


def _by_length(cost: Costs) -> str:
    head = ["length", "operations"]
    pairs = cost.rows[0].pairs is not None
    held = cost.rows[0].cache_bytes is not None
    head += ["pairs a head"] * pairs + ["cache bytes", "bytes a token"] * held
    return columns(head, [_line(row, pairs=pairs, held=held) for row in cost.rows])


def _line(row: Cost, *, pairs: bool, held: bool) -> list[str]:
    line = [f"{row.length:,}", amount(row.operations)]
    line += [f"{row.pairs or 0:,.0f}"] if pairs else []
    held_bytes = row.cache_bytes or 0
    return line + ([f"{held_bytes:,.0f}", f"{held_bytes / row.length:,.0f}"] if held else [])


def _as_values(cost: Costs) -> dict[str, Any]:
    rows = [vars(row) for row in cost.rows]
    return vars(cost) | {"rows": rows, "linear": cost.is_linear}
