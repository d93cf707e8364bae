"""What is fetched: the files that are named, and in them what the guide says. `make test-models` fetches them."""

import pytest

from attnkit.lab.data import SOURCES, DataError, pairs_of, text_of

pytestmark = pytest.mark.exhaustive


def fetched(read):
    """What `read` gives; skips where this machine has no such client or no way to what it would ask."""
    try:
        return read()
    except DataError as refusal:
        if "no apt-get here" in str(refusal) or "cannot fetch it" in str(refusal):
            pytest.skip(str(refusal))
        raise


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_source_is_kept_where_it_is_found_again(source):
    path = fetched(source.path)
    assert path.name == source.file
    assert source.path() == path


def test_the_plays_are_42():
    text = fetched(text_of)
    assert (len(text), len(set(text))) == (5_057_279, 84)
    assert "To be, or not to be" in text
    assert text.count("\nby William Shakespeare") + text.count("\nBy William Shakespeare") >= 37
    assert "\r" not in text


def test_the_verses_stand_side_by_side():
    pairs = fetched(pairs_of)
    assert len(pairs) == 7948
    assert ("Jesus wept.", "Y lloró Jesús.") in pairs
    assert pairs[-1] == (
        "The grace of the Lord Jesus Christ be with all the saints. Amen.",
        "La gracia de nuestro Señor Jesucristo sea con todos vosotros. Amén.",
    )
    assert [pair for pair in pairs if set("<>") & set("".join(pair)) or max(map(len, pair)) > 700] == []
