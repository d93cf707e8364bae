"""The reader's copy of the tutorial: laid down once, kept as the reader changed it, opened in JupyterLab.

What a reader changes are the sources of the cells. Running cells changes outputs alone, so a copy is
told apart by a digest of its sources, which the tutorial carries in its metadata.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from attnkit.errors import OptionError

NAME = "attention.ipynb"
_COMMAND = "attnkit learn"
# the address is told at level CRITICAL and stays; the questions about news and updates would reach for the network
_QUIET = (
    "--ServerApp.log_level=ERROR",
    "--LabApp.log_level=ERROR",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
)


def digest(cells: Iterable[Mapping[str, Any]]) -> str:
    """The sha256, in hexadecimal, of the kinds and sources of notebook `cells`; outputs do not count."""
    told = [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def packaged() -> Path:
    """Where the tutorial lies: in the installed package, or at the root of a checkout.

    Raises:
        OptionError: this installation came without it.
    """
    inside = Path(str(resources.files("attnkit"))) / "learn" / NAME
    checkout = Path(__file__).parents[3] / NAME
    for path in (inside, checkout):
        if path.is_file():
            return path
    raise OptionError(
        where=_COMMAND,
        what=f"this installation of attnkit lacks {NAME}",
        fix="pip install --force-reinstall --no-deps attnkit",
    )


def lay_down(folder: Path, *, overwrite: bool = False) -> str:
    """Put the tutorial into `folder` and say in a sentence what was done.

    A copy that the reader changed is kept; with `overwrite` it is kept under another name.

    Raises:
        OptionError: `folder` cannot be written, or its file of that name is no notebook.
    """
    fresh, copy = packaged(), folder / NAME
    if copy.exists() and copy.samefile(fresh):
        return _told_of_original(overwrite)
    try:
        if not os.path.lexists(copy):
            shutil.copyfile(fresh, copy)
            return f"{NAME} is now in {folder}."
        return _renew(fresh, copy, overwrite)
    except OSError as refused:
        raise OptionError(
            where=_COMMAND,
            what=f"cannot write {copy} ({refused.strerror})",
            fix=f"change to a folder of your own first: mkdir attention && cd attention && {_COMMAND}",
        ) from refused


def lab_command(*, port: int | None = None, browser: bool = True) -> list[str]:
    """The command that opens the tutorial in JupyterLab, under this very Python.

    Raises:
        OptionError: `port` is taken or not allowed.
    """
    command = [sys.executable, "-m", "jupyterlab", f"--LabApp.default_url=/lab/tree/{NAME}", *_QUIET]
    if _can_encrypt():
        command.append("--KernelManager.transport_encryption=auto")  # without it each kernel prints a warning
    if port is not None:
        _check_free(port)
        command.append(f"--port={port}")
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # in a container root is the only user, and JupyterLab would refuse it
    return command


def start(command: Sequence[str], folder: Path) -> int:
    """Run `command` in `folder` and return its exit status; on POSIX it takes this process's place."""
    if os.name == "posix":
        # so that Ctrl-C and a kill reach JupyterLab itself and leave no server behind
        os.chdir(folder)
        os.execv(command[0], list(command))
    return subprocess.call(command, cwd=folder)


def _can_encrypt() -> bool:
    import zmq  # comes with JupyterLab

    return bool(zmq.has("curve"))


def _check_free(port: int) -> None:
    # JupyterLab itself would take the next port without a word
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port just left counts as free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as refused:
            raise OptionError(
                where=_COMMAND,
                what=f"cannot use port {port} ({refused.strerror})",
                fix="name another one, or leave --port out: a free one is then found",
            ) from refused


def _told_of_original(overwrite: bool) -> str:
    if overwrite:
        raise OptionError(
            where=_COMMAND,
            what=f"this {NAME} is the checkout's own, from which fresh copies are made",
            fix=f"git checkout {NAME} brings back the committed one",
        )
    return f"This {NAME} is the checkout's own; what you change here, git will show."


def _renew(fresh: Path, copy: Path, overwrite: bool) -> str:
    theirs, ours = _read(copy), _read(fresh)
    recorded = theirs["metadata"].get("attnkit", {})
    version = ours["metadata"].get("attnkit", {}).get("version", "this version")
    if digest(theirs["cells"]) != recorded.get("sources"):
        if not overwrite:
            return (
                f"{NAME} holds changes of yours and was kept. "
                f"{_COMMAND} --overwrite lays down a fresh one and keeps yours beside it."
            )
        beside = _free_name(copy)
        copy.rename(beside)
        shutil.copyfile(fresh, copy)
        return f"{NAME} is fresh; yours is now {beside.name}."
    if digest(ours["cells"]) != digest(theirs["cells"]) or overwrite:
        shutil.copyfile(fresh, copy)
        return f"{NAME} held no changes of yours and is now that of attnkit {version}."
    return f"{NAME} is here already, and up to date."


def _read(path: Path) -> dict[str, Any]:
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        digest(notebook["cells"])
        notebook["metadata"].get("attnkit", {}).get("sources")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as unreadable:
        raise OptionError(
            where=_COMMAND,
            what=f"{path} is there already and is no notebook",
            fix=f"rename or remove it, or run {_COMMAND} in another folder",
        ) from unreadable
    return notebook


def _free_name(copy: Path) -> Path:
    beside, number = copy.with_stem(f"{copy.stem}-yours"), 2
    while os.path.lexists(beside):
        beside, number = copy.with_stem(f"{copy.stem}-yours-{number}"), number + 1
    return beside
