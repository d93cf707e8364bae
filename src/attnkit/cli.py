"""The command `attnkit`: each subcommand reads its options, makes one library call, and prints.

Exit status: 0 when all is well, 1 when attnkit refuses (the reason is printed), 2 for wrong usage.
"""

import importlib.util
from pathlib import Path
from typing import Any

import click

from attnkit.errors import AttentionError, MissingExtraError

_TUTORIAL_NEEDS = ("jupyterlab", "ipykernel", "matplotlib", "safetensors", "tokenizers")


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


@main.command("learn", epilog="Example: attnkit learn --port 8899 --no-browser")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="The port of JupyterLab; its own choice if left out."
)
@click.option("--no-browser", is_flag=True, help="Open no browser; the printed address leads there.")
@click.option(
    "--overwrite", is_flag=True, help="Lay down a fresh copy; one that you changed is kept beside it."
)
def open_tutorial(port: int | None, no_browser: bool, overwrite: bool) -> None:
    """Open the tutorial, attention.ipynb, in JupyterLab.

    It is copied to the current folder if it is not there. A copy that you changed is kept as it is.
    """
    _check_packages()
    from attnkit.learn import notebook

    folder = Path.cwd()
    command = notebook.lab_command(port=port, browser=not no_browser)
    click.echo(notebook.lay_down(folder, overwrite=overwrite))
    click.echo("JupyterLab starts at the address below. Ctrl-C twice stops it.")
    raise SystemExit(notebook.start(command, folder))


def _check_packages() -> None:
    # before attnkit.learn is imported, which would name one package, and an extra that brings only that one
    missing = [name for name in _TUTORIAL_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            where="attnkit learn",
            what=f"the tutorial needs {', '.join(missing)}, not installed",
            fix='pip install "attnkit[notebook]"',
        )
