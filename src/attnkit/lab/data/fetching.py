"""Fetch a file once, by the client that is set up on the machine, and keep it where its hash is right."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attnkit.errors import AttentionError


class DataError(AttentionError):
    """Data cannot be had, or are not what they should be."""


@dataclass(frozen=True)
class Source:
    """A file that others publish.

    Attributes:
        name: of the package.
        version: of the package.
        file: what the client calls the file.
        sha256: of the file.
        client: "pip" or "apt".
        holds: what is in it, for people.
        licence: and whose it is.
        instead: what to write where it cannot be had.
    """

    name: str
    version: str
    file: str
    sha256: str
    client: str
    holds: str
    licence: str
    instead: str

    def path(self) -> Path:
        """The file, fetched if it is not there.

        Raises:
            DataError: it cannot be fetched, or is another file than it was.
        """
        kept = cache_folder() / self.file
        if kept.is_file() and _sha256(kept) == self.sha256:
            return kept
        sys.stderr.write(f"fetching {self.name} {self.version} ({self.holds}) by {self.client} ...\n")
        try:
            self._fetch(kept)
        except OSError as trouble:
            what = f"{kept.parent} cannot be written: {trouble.strerror}; $ATTNKIT_CACHE names another folder"
            raise self.refusal(what) from trouble
        return kept

    def _fetch(self, kept: Path) -> None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            _CLIENTS[self.client](self, Path(folder))
            fetched = Path(folder) / self.file
            if not fetched.is_file() or _sha256(fetched) != self.sha256:
                got = _sha256(fetched) if fetched.is_file() else "no such file"
                raise self.refusal(f"{self.file} should have SHA-256 {self.sha256}; {self.client} gave {got}")
            fetched.replace(kept)

    def refusal(self, what: str) -> DataError:
        """The error that says `what`, and what to do instead."""
        return DataError(where=f"data {self.name}", what=what, fix=self.instead)


def cache_folder() -> Path:
    """Where fetched files are kept."""
    given = os.environ.get("ATTNKIT_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnkit"


def _by_pip(source: Source, folder: Path) -> None:
    # with its hash, so that pip opens no other file than this one
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{source.name}=={source.version} --hash=sha256:{source.sha256}\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]
    _run(
        source,
        [*command, "--no-deps", "--no-binary", ":all:", "--dest", str(folder), "-r", str(wanted)],
        folder,
    )


def _by_apt(source: Source, folder: Path) -> None:
    if shutil.which("apt-get") is None:
        raise source.refusal("it is a package of Debian, and there is no apt-get here")
    _run(source, ["apt-get", "download", "-q", f"{source.name}={source.version}"], folder)


def _run(source: Source, command: list[str], folder: Path) -> None:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode:
        said = [line.strip() for line in (ran.stdout + ran.stderr).splitlines() if line.strip()]
        raise source.refusal(f"{source.client} cannot fetch it: {said[-1] if said else ran.returncode}")


_CLIENTS: dict[str, Callable[[Source, Path], None]] = {"pip": _by_pip, "apt": _by_apt}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
