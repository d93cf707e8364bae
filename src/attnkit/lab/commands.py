"""A run as a command: the options that all runs have, and refusals printed as text in place of a traceback."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from attnkit.errors import AttentionError


class _Command(click.Command):
    """A command that prints an AttentionError as text and exits with 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except AttentionError as refusal:
            raise click.ClickException(str(refusal)) from refusal


def command(name: str, *, steps: int) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a command with --steps, --folder, --seed and --fresh; it gets them as arguments.

    Args:
        name: of the run; it is kept in runs/`name` where nothing else is said.
        steps: how many where nothing else is said.
    """
    kept = Path("runs") / name
    folder = click.Path(file_okay=False, path_type=Path)
    made = (
        click.option(
            "--steps",
            default=steps,
            show_default=True,
            type=click.IntRange(1),
            help="How many in all, those made before included.",
        ),
        click.option("--folder", default=kept, show_default=True, type=folder, help="Where the run is kept."),
        click.option("--seed", default=0, show_default=True, help="Of parameters, batches and sample."),
        click.option("--fresh", is_flag=True, help="Begin anew, whatever the folder holds."),
    )

    def decorated(function: Callable[..., Any]) -> click.Command:
        for option in reversed(made):
            function = option(function)
        return click.command(cls=_Command)(function)

    return decorated
