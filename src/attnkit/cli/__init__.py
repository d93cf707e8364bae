"""The command `attnkit`: each subcommand reads its options, makes a library call or two, and prints.

Exit status: 0 when all is well, 1 when attnkit refuses (the reason is printed), 2 for wrong usage.
"""

from typing import Any

import click

from attnkit.cli.bench import made_again
from attnkit.cli.checking import check_target
from attnkit.cli.listing import list_mechanisms
from attnkit.cli.showing import show_mechanism
from attnkit.cli.tutorial import open_tutorial
from attnkit.errors import AttentionError


class _Group(click.Group):
    """A group whose commands print an AttentionError as text in place of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors that attnkit raises on purpose become a message and exit status 1."""
        try:
            return super().invoke(ctx)
        except AttentionError as refusal:
            raise click.ClickException(str(refusal)) from refusal


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="attnkit")
def main() -> None:
    """Attention for PyTorch that you can read, run, check and see."""


for _command in (open_tutorial, list_mechanisms, show_mechanism, check_target, made_again):
    main.add_command(_command)
