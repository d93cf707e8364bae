"""`attnkit learn`: opens the tutorial in JupyterLab."""

import importlib.util
from pathlib import Path

import click

from attnkit.errors import MissingExtraError

_TUTORIAL_NEEDS = ("jupyterlab", "ipykernel", "matplotlib", "safetensors", "tokenizers")


@click.command("learn", epilog="Example: attnkit learn --port 8899 --no-browser")
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
