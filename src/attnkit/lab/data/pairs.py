"""Pairs of a sentence and its translation: 7,948 verses in English and Spanish, or a file."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attnkit.errors import need
from attnkit.lab.data.fetching import DataError, Source
from attnkit.lab.data.sources import ENGLISH, SPANISH
from attnkit.lab.data.texts import read_text

Pairs = list[tuple[str, str]]
LEAST = 20
_VERSES = "verses.tsv"
# what is no part of a verse, such as the glossary after the last; words, which hold together; and all other marks,
# which stand between words
_NOTES, _WORDS, _MARKS = (
    re.compile(r"<(note|title)\b.*?</\1>|<chapter eID.*", re.DOTALL),
    re.compile(r"</?w\b[^>]*>"),
    re.compile(r"<[^>]+>"),
)
_BEFORE_SIGNS = re.compile(r"\s+(?=[,.;:?!\u201d\u2019)])")


def pairs_of(path: Path | None = None) -> Pairs:
    """Verses of the New Testament in English and Spanish, or the lines of a file with a tab between two sentences.

    Raises:
        DataError: there is no such file, a line has no tab or two, there are too few; or the verses cannot be had.
    """
    if path is None:
        return _kept_verses()
    pairs = []
    for number, line in enumerate(read_text(path, "--pairs").splitlines(), 1):
        if not line.strip():
            continue
        halves = [half.strip() for half in line.split("\t")]
        if len(halves) != 2 or not all(halves):
            raise DataError(
                where="--pairs",
                what=f"line {number} of {path} is not two sentences with a tab between: {line[:60]!r}",
                fix=r"printf 'a sentence\tits translation\n'",
            )
        pairs.append((halves[0], halves[1]))
    if len(pairs) < LEAST:
        raise DataError(
            where="--pairs",
            what=f"{path} holds {len(pairs)} pairs; there is something to learn from {LEAST}, and much from 5,000",
            fix="more lines",
        )
    return pairs


def _kept_verses() -> Pairs:
    """The verses, read once from what is fetched: that takes half a minute."""
    sources = ENGLISH.path(), SPANISH.path()
    kept = sources[0].with_name(f"{ENGLISH.version}-{SPANISH.version}-{_VERSES}")
    if not kept.is_file():
        lines = [f"{english}\t{spanish}\n" for english, spanish in _verses()]
        beside = kept.with_suffix(".new")
        beside.write_text("".join(lines), encoding="utf-8")
        beside.replace(kept)
    return pairs_of(kept)


def _verses() -> Iterator[tuple[str, str]]:
    modules = need("pysword.modules", extra="lab", where="--pairs")
    with tempfile.TemporaryDirectory() as folder:
        for source in (ENGLISH, SPANISH):
            _unpack(source, folder)
        library = modules.SwordModules(str(Path(folder) / "usr" / "share" / "sword"))
        library.parse_modules()
        english, spanish = (library.get_bible_from_module(name) for name in ("engWEB2015eb", "spaRV1909eb"))
        theirs = {book.name: book for book in spanish.get_structure().get_books()["nt"]}
        for book in english.get_structure().get_books()["nt"]:
            lengths = zip(book.chapter_lengths, theirs[book.name].chapter_lengths, strict=True)
            for chapter, both in enumerate(lengths, 1):
                for verse in range(1, min(both) + 1):
                    pair = tuple(_plain(bible, (book.name, chapter, verse)) for bible in (english, spanish))
                    if all(pair):
                        yield pair[0], pair[1]


def _unpack(source: Source, folder: str) -> None:
    if shutil.which("dpkg-deb") is None:
        raise source.refusal("it is a package of Debian, and there is no dpkg-deb here")
    ran = subprocess.run(
        ["dpkg-deb", "-x", str(source.path()), folder], capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise source.refusal(f"dpkg-deb cannot unpack it: {ran.stderr.strip()}")


def _plain(bible: Any, place: tuple[str, int, int]) -> str:
    marked = bible.get(*place, clean=False)
    text = _MARKS.sub(" ", _WORDS.sub("", _NOTES.sub(" ", marked)))
    return _BEFORE_SIGNS.sub("", " ".join(text.split()))
