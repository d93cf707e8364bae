"""The page of a mechanism, and their index, in Markdown, made from the values alone; no Sphinx is needed.

page(find("sliding_window"), all_mechanisms())
"""

import html
import inspect
from collections.abc import Mapping

from attnkit.atlas import reductions
from attnkit.laws import UNIVERSAL
from attnkit.mechanism import Law, Learned, Mechanism, Option, Projected, projections
from attnkit_docs import costs, heatmaps, relations
from attnkit_docs.sessions import answered, told, written

FAMILIES = {
    "where": ("Where a query looks", "The mask: which keys a query may read."),
    "score": ("How a pair is scored", "What the number is that says how well a query and a key match."),
    "normalise": ("How scores become weights", "What softmax does, and what can stand in its place."),
    "heads": ("What heads share", "How many keys and values there are, and how heads work together."),
    "selection": ("Which keys are chosen", "Queries choose their keys by what is in them."),
    "approximation": ("Attention, approximated", "Nearly the same context for less work."),
    "recurrence": (
        "A memory of fixed size",
        "The past is a state, so that each further token costs the same.",
    ),
}
_D_MODEL, _NUM_HEADS = 24, 6


def page(mechanism: Mechanism, everything: Mapping[str, Mechanism]) -> str:
    """Markdown of one page.

    Args:
        mechanism: what it is about.
        everything: all mechanisms by name, to say which ones become this one.
    """
    sections = {
        "": _opening(mechanism),
        "What its file says": mechanism.text,
        "Its weights": _weights(mechanism),
        "Options": _options(mechanism),
        "What a layer has for it": _parts(mechanism),
        "What is true of it": _laws(mechanism),
        "What it becomes, and what becomes it": _relations(mechanism, everything),
        "What it costs": costs.section(mechanism),
        "An example": f"```pycon\n{answered(example(mechanism))}\n```",
    }
    titled = [f"## {title}\n\n{text}" if title else text for title, text in sections.items() if text]
    return "\n\n".join([f"# {mechanism.name}", *titled]) + "\n"


def index(everything: Mapping[str, Mechanism]) -> str:
    """Markdown of the page that shows all of them by family, and what becomes what."""
    families = [*FAMILIES, *sorted({m.family for m in everything.values()} - FAMILIES.keys())]
    blocks = [_family(family, everything) for family in families]
    return "\n\n".join(
        [
            "# Mechanisms",
            f"{len(everything)} ways to attend, by what they change. Each picture shows the weights of one head on 16 "
            "random tokens: queries from top to bottom, keys from left to right, blue where a query reads, orange "
            "where it reads a value's opposite. Every page is made from the mechanism's file.",
            *(block for block in blocks if block),
            "## What becomes what",
            "A line means: with some options or learned numbers, the mechanism at its right end *is* the one at its "
            "left end, and a test holds it to that. Point at a line to read which, at a name to see its lines.",
            f'<div class="wide">{relations.drawn(reductions(everything), everything)}</div>',
            "## What is true of every mechanism",
            "\n".join(f"- {_sentence_of(law)}" for law in UNIVERSAL),
            "Tests hold every mechanism of the catalogue to this, with each of its examples, a plug-in's too.",
            "```{toctree}\n:hidden:\n" + "\n".join(everything) + "\n```\n",
        ]
    )


def _family(family: str, everything: Mapping[str, Mechanism]) -> str:
    members = [mechanism for mechanism in everything.values() if mechanism.family == family]
    if not members:
        return ""
    title, sentence = FAMILIES.get(family, (family, ""))
    cards = "".join(
        f'<a class="card-link" href="{m.name}.html">{heatmaps.thumbnail(m)}'
        f"<span><b>{html.escape(m.name)}</b><br>{html.escape(m.summary)}</span></a>"
        for m in members
    )
    return f'## {title}\n\n{sentence}\n\n<div class="cards">{cards}</div>'


def _opening(mechanism: Mechanism) -> str:
    paper = mechanism.paper
    place = f", {paper.equation}" if paper.equation else ""
    forms = {
        "rule": "It is a [rule](../guide/rules.md): every backend that can run it does.",
        "recurrence": "It is a [recurrence](../guide/recurrences.md): step by step, in chunks or in parallel.",
        "attend": "It is a function that is written out, computed as it is read.",
    }
    form = next(text for name, text in forms.items() if getattr(mechanism, name) is not None)
    return (
        f"{mechanism.summary}\n\n```{{math}}\n{mechanism.formula}\n```\n\n"
        f"[{paper.title}]({paper.url}), {paper.year}{place}.\n\n{form}"
    )


def _weights(mechanism: Mechanism) -> str:
    rows = [heatmaps.drawn(mechanism, options) for options in mechanism.examples]
    return (
        "Queries from top to bottom, keys from left to right; point at a cell to read its number.\n\n"
        f'<div class="examples">{"".join(rows)}</div>'
    )


def _options(mechanism: Mechanism) -> str:
    if not mechanism.options:
        return "It has none."
    rows = [
        f"| `{option.name}` | {_default(option)} | {_plain(option.meaning)} |" for option in mechanism.options
    ]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows])


def _default(option: Option) -> str:
    return "must be given" if option.required else f"`{option.default!r}`".replace("|", r"\|")


def _plain(text: str) -> str:
    return text.replace("|", r"\|") or " "


def _parts(mechanism: Mechanism) -> str:
    if not mechanism.parts:
        return "The usual projections to query, key and value, and nothing more."
    usual = [part.name for part in projections(mechanism.parts) if part not in mechanism.parts]
    others = [name for name in ("query", "key", "value") if name not in usual]
    said = (
        f"The usual projections to {' and '.join(usual)}, and:"
        if usual
        else "In place of the usual projections:"
    )
    if usual and others:
        said = f"The usual projections to {' and '.join(usual)}; that to {' and '.join(others)} is another:"
    head = ["| name | what it is | for | meaning |", "|---|---|---|---|"]
    rows = [_part(part) for part in mechanism.parts]
    return "\n".join([said, "", *head, *rows])


def _part(part: Learned | Projected) -> str:
    if isinstance(part, Learned):
        shape = ", ".join(map(_extent, part.shape))
        return f"| `{part.name}` | a parameter ({shape}) | the layer | {_plain(part.meaning)} |"
    size = f"{_extent(part.heads)} x {_extent(part.width)}"
    side = {"query": "each token that asks", "key": "each token that is read, kept in a cache"}[part.of]
    return f"| `{part.name}` | a linear map to {size} | {side} | {_plain(part.meaning)} |"


def _extent(extent: object) -> str:
    return "a size of its own" if callable(extent) else str(extent)


def _laws(mechanism: Mechanism) -> str:
    stated = [law for law in mechanism.laws if not hasattr(law, "target")]
    lines = [f"- {_sentence_of(law)}{_terms_of(law)}" for law in stated]
    common = "what is [true of every mechanism](index.md#what-is-true-of-every-mechanism)"
    if not lines:
        return f"Nothing besides {common}."
    return "\n".join([*lines, "", f"Tests hold it to this, and to {common}."])


def _sentence_of(law: Law) -> str:
    return (inspect.getdoc(law) or law.__name__.replace("_", " ")).partition("\n")[0]


def _terms_of(law: Law) -> str:
    """The options that a law holds with, where it doesn't with all."""
    terms = getattr(law, "options", {})
    return f" So it is with `{told(terms)}`." if terms else ""


def _relations(mechanism: Mechanism, everything: Mapping[str, Mechanism]) -> str:
    found, name = reductions(everything), mechanism.name
    mine = [
        f"- It becomes [{one.target}]({one.target}.md): {one.condition}."
        for one in found
        if one.source == name
    ]
    theirs = [
        f"- [{one.source}]({one.source}.md) becomes it: {one.condition}."
        for one in found
        if one.target == name
    ]
    return "\n".join([*mine, *theirs])


def example(mechanism: Mechanism) -> str:
    """Code that shows it at work, for the first of its examples."""
    name, options = mechanism.name, written(mechanism.name, mechanism.examples[0])
    more = f", {options}" if options else ""
    lines = [
        "import torch",
        "import attnkit as ak",
        f'layer = ak.Attention({_D_MODEL}, {_NUM_HEADS}, mechanism="{name}"{more})',
        f"x = torch.randn(2, 7, {_D_MODEL})",
        "layer(x).shape",
    ]
    if costs.decodes(mechanism):
        lines += [
            "cache = layer.new_cache()",
            "steps = [layer(token, cache=cache) for token in x.split(1, dim=-2)]",
            "torch.testing.assert_close(torch.cat(steps, dim=-2), layer(x))",
            "cache.held_bytes",
        ]
    if not mechanism.parts:
        lines += [
            "query, key, value = torch.randn(3, 2, 6, 7, 4)  # 2 samples, 6 heads, 7 tokens",
            f'ak.find("{name}")(query, key, value{more}).shape',
            f'ak.find("{name}").weights(query, key{more})[0, 0, -1]  # what the last token reads',
        ]
    return "\n".join(lines)
