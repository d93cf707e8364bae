"""`attnkit list`: every mechanism that is installed, by family, or the map of what becomes what."""

from collections.abc import Mapping
from typing import Any

import click

from attnkit.catalog import FAMILIES, all_mechanisms, package_of
from attnkit.cli.words import as_json, table, wrong_usage
from attnkit.errors import unknown_name
from attnkit.mechanism import Mechanism


@click.command("list", epilog="Example: attnkit list --family where --decodable")
@click.option("--family", metavar="NAME", help=f"Only one family: {', '.join(FAMILIES)}.")
@click.option(
    "--decodable", is_flag=True, help="Only those that go on from a cache, one token after the other."
)
@click.option(
    "--linear",
    is_flag=True,
    help="Only those whose cost grows as the length; it is measured, for some seconds.",
)
@click.option("--map", "as_map", is_flag=True, help="Draw which becomes which, and by which options.")
@click.option("--json", "in_json", is_flag=True, help="Print JSON.")
def list_mechanisms(family: str | None, decodable: bool, linear: bool, as_map: bool, in_json: bool) -> None:
    """List the mechanisms that are installed, those of other packages too.

    Cost and decoding are those of each mechanism's first example.
    """
    with wrong_usage():
        if family is not None and family not in FAMILIES:
            raise unknown_name("attnkit list", "family", family, FAMILIES)
    every = all_mechanisms()
    chosen = {
        name: mechanism
        for name, mechanism in every.items()
        if family in (None, mechanism.family) and _passes(mechanism, decodable=decodable, linear=linear)
    }
    if as_map:
        click.echo(_map(chosen, in_json=in_json))
    elif in_json:
        click.echo(as_json([_told(mechanism) for mechanism in chosen.values()]))
    else:
        click.echo(_by_family(chosen) if chosen else "none is all of that")


def _passes(mechanism: Mechanism, *, decodable: bool, linear: bool) -> bool:
    from attnkit import atlas

    bound = mechanism.bind(mechanism.examples[0])
    if decodable and atlas.why_undecodable(atlas.layer_of(bound)) is not None:
        return False
    return not linear or atlas.costs(bound).is_linear


def _by_family(chosen: Mapping[str, Mechanism]) -> str:
    blocks = []
    for family, meaning in FAMILIES.items():
        rows = [
            (name, _summary(mechanism)) for name, mechanism in chosen.items() if mechanism.family == family
        ]
        if rows:
            blocks.append(f"{family}: {meaning}\n{table(rows)}")
    count = "1 mechanism" if len(chosen) == 1 else f"{len(chosen)} mechanisms"
    return "\n\n".join([*blocks, f"{count}; attnkit show NAME tells more of one"])


def _summary(mechanism: Mechanism) -> str:
    package = package_of(mechanism)
    return f"{mechanism.summary} (of the package {package})" if package else mechanism.summary


def _map(chosen: Mapping[str, Mechanism], *, in_json: bool) -> str:
    from attnkit import atlas

    found = atlas.reductions(chosen)
    if in_json:
        return as_json({"mechanisms": list(chosen), "reductions": [vars(reduction) for reduction in found]})
    head = (
        "Under each mechanism stand those that become it, and with what. Every line is a law that is tested."
    )
    return f"{head}\n\n{atlas.tree(found, list(chosen))}"


def _told(mechanism: Mechanism) -> dict[str, Any]:
    return {
        "name": mechanism.name,
        "family": mechanism.family,
        "summary": mechanism.summary,
        "options": [option.name for option in mechanism.options],
        "paper": vars(mechanism.paper),
        "package": package_of(mechanism),
    }
