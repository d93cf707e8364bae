"""`attnkit show NAME`: one mechanism, its formula, options, weights, cost, and what it becomes."""

import click

from attnkit.catalog import find
from attnkit.cli.card import Card
from attnkit.cli.values import options_of
from attnkit.cli.words import as_json, wrong_usage


@click.command("show", epilog="Example: attnkit show sliding_window --set window=5 --length 65536")
@click.argument("name")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Set an option; may be given again."
)
@click.option("--tokens", type=click.IntRange(1), help="How many tokens the picture has.")
@click.option(
    "--length",
    "lengths",
    type=click.IntRange(1),
    multiple=True,
    help="A length to tell the cost at; may be given again.",
)
@click.option("--json", "in_json", is_flag=True, help="Print JSON.")
def show_mechanism(
    name: str, settings: tuple[str, ...], tokens: int | None, lengths: tuple[int, ...], in_json: bool
) -> None:
    """Show one mechanism: formula, paper, options, a picture of its weights, its cost, and what it becomes.

    Options without a default are those of its first example. The weights are of a seeded draw.
    """
    from attnkit import atlas

    with wrong_usage():
        mechanism = find(name)
        bound = mechanism.bind(options_of(mechanism, settings))
        layer = atlas.layer_of(bound)
        sketch = atlas.sketched(bound, length=tokens)
    card = Card(bound, layer, sketch, lengths)
    click.echo(as_json(card.told) if in_json else str(card))
