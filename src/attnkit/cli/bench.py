"""`attnkit bench WHAT`: the numbers that this project claims, made again where they are asked for."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attnkit.cli.words import wrong_usage

if TYPE_CHECKING:
    from attnkit.conformance.bench import Mutant, Outcome

FOUND = 0.97  # of the mutants; docs/decisions/check-detects.md names those that are missed, and why


@click.group("bench")
def made_again() -> None:
    """Make a table of this project again."""


@made_again.command("check", epilog="Example: attnkit bench check --level basic --seeds 1 --only softmax")
@click.option(
    "--level",
    type=click.Choice(("basic", "full", "strict")),
    default="full",
    show_default=True,
    help="How much is tried.",
)
@click.option(
    "--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many of each mutant."
)
@click.option(
    "--only", metavar="TEXT", default="", help="Mutants and right controls whose name or fault has this."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="The repository; the one that attnkit is installed from otherwise.",
)
def bench_check(level: str, seeds: int, only: str, folder: Path | None) -> None:
    """Check every planted fault of the tests, and tell how many were found and named.

    The mutants are in tests/mutants of the repository. All of them with three seeds take ten minutes; progress goes to
    stderr, the table to stdout.

    Exit status: 0 when 97 % were found and no right control is accused, 1 when not, 2 when there is nothing to check.
    """
    from attnkit.conformance.bench import chosen, planted, table

    with wrong_usage():
        mutants = chosen((mutant for group in planted(folder) for mutant in group), only)
    told = list(_told(mutants, level, seeds))
    click.echo(table(told), nl=False)
    if not _good(told):
        raise SystemExit(1)


def _told(mutants: "tuple[Mutant, ...]", level: str, seeds: int) -> "Iterator[Outcome]":
    """Each outcome; how far it is, and what was not found, are told on stderr."""
    from attnkit.conformance.bench import outcomes

    total = len(mutants) * seeds
    step = max(1, total // 20)
    for number, one in enumerate(outcomes(mutants, level=level, seeds=seeds), 1):
        if (one.fault is None) != (one.mutant.fault is None):
            click.echo(
                f"{one.mutant.name}, seed {one.seed}: {one.fault or 'not found'}, {one.told}", err=True
            )
        if number % step == 0 or number == total:
            click.echo(f"{number} of {total} checked", err=True)
        yield one


def _good(told: "list[Outcome]") -> bool:
    wrong = [one for one in told if one.mutant.fault is not None]
    accused = any(one.fault is not None for one in told if one.mutant.fault is None)
    return not accused and sum(one.fault is not None for one in wrong) >= FOUND * len(wrong)
