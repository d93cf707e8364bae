"""Beams: the likeliest texts, against all texts there are, and each text's own."""

import itertools
import math

import pytest
import torch

from attnkit.errors import OptionError
from attnkit.models import beam_search, generate
from tests.models import tiny
from tests.models.test_generation import SHAPES


def brute_force(model, tokens, count, stop=None):
    """Every text of `count` tokens that can follow, with its logarithm, likeliest first."""
    found = {}
    for new in itertools.product(range(5), repeat=count):
        end = new.index(stop) + 1 if stop in new else count
        text = torch.cat([tokens, torch.tensor([new[:end]])], 1)
        steps = model(text[:, :-1]).log_softmax(-1)[0, -end:]
        filled = new[:end] + (stop,) * (count - end)
        found[filled] = steps[range(end), list(new[:end])].sum().item()
    return sorted(found.items(), key=lambda pair: -pair[1])


def five_words():
    return tiny.decoder(vocabulary_size=5, d_model=12, num_heads=3)


@pytest.mark.parametrize("stop", [None, 2])
def test_enough_beams_find_the_likeliest_of_all_texts(stop):
    # 5 tokens and 4 steps: with 125 beams none of the 5^3 texts before the last step is let go
    model, tokens = five_words(), tiny.ids(batch=1, length=3, vocabulary_size=5)
    texts, sums = beam_search(model, tokens, max_new_tokens=4, beams=125, stop=stop)
    wanted = brute_force(model, tokens, 4, stop)[:125]
    assert [tuple(text) for text in texts[0, :, 3:].tolist()] == [text for text, _ in wanted]
    torch.testing.assert_close(sums[0], torch.tensor([one for _, one in wanted], dtype=sums.dtype))


def test_few_beams_keep_the_likeliest_of_each_step():
    # by hand: of all that go on from the two kept, the two likeliest
    model, tokens = five_words(), tiny.ids(batch=1, length=3, vocabulary_size=5)
    kept = [((), 0.0)]
    for _ in range(4):
        further = []
        for text, total in kept:
            read = torch.cat([tokens, torch.tensor([text], dtype=torch.int64).reshape(1, -1)], 1)
            steps = model(read)[0, -1].log_softmax(-1).tolist()
            further += [((*text, word), total + step) for word, step in enumerate(steps)]
        kept = sorted(further, key=lambda pair: -pair[1])[:2]
    texts, sums = beam_search(model, tokens, max_new_tokens=4, beams=2)
    assert [tuple(text) for text in texts[0, :, 3:].tolist()] == [text for text, _ in kept]
    torch.testing.assert_close(sums[0].tolist(), [total for _, total in kept])


@pytest.mark.parametrize("shape", SHAPES)
def test_one_beam_is_greedy(shape):
    model, tokens, mask = tiny.decoder(**shape), tiny.ids(), tiny.padding(0, 3)
    texts, _ = beam_search(model, tokens, max_new_tokens=6, beams=1, mask=mask)
    assert torch.equal(texts[:, 0], generate(model, tokens, max_new_tokens=6, mask=mask))


@pytest.mark.parametrize("shape", SHAPES)
def test_texts_of_other_lengths_have_the_beams_of_each_alone(shape):
    model, tokens, mask = tiny.decoder(**shape), tiny.ids(), tiny.padding(0, 3)
    texts, sums = beam_search(model, tokens, max_new_tokens=5, beams=3, mask=mask)
    for text, missing in enumerate([0, 3]):
        alone, total = beam_search(model, tokens[text : text + 1, missing:], max_new_tokens=5, beams=3)
        assert torch.equal(texts[text : text + 1, :, missing:], alone)
        torch.testing.assert_close(sums[text : text + 1], total)


def test_beams_sum_to_one_where_they_are_all_texts():
    model, tokens = five_words(), tiny.ids(length=3, vocabulary_size=5)
    texts, sums = beam_search(model, tokens, max_new_tokens=2, beams=40)
    assert texts.shape == (2, 25, 5)  # 5^2 texts are all there are
    torch.testing.assert_close(sums.exp().sum(-1), torch.ones(2, dtype=sums.dtype))


def test_beams_that_are_no_text_have_no_probability():
    # two words, one of which ends the text: 00, 01 and 1 are all texts of two steps
    model = tiny.decoder(vocabulary_size=2)
    texts, sums = beam_search(model, tiny.ids(batch=1, vocabulary_size=2), max_new_tokens=2, beams=4, stop=1)
    found = {
        tuple(text): math.exp(total)
        for text, total in zip(texts[0, :3, 7:].tolist(), sums[0, :3], strict=True)
    }
    assert set(found) == {(0, 0), (0, 1), (1, 1)}
    assert math.isclose(sum(found.values()), 1.0)
    assert (sums[0, 3], texts[0, 3, 7:].tolist()) == (-math.inf, [1, 1])


def test_beams_end_where_all_texts_have_ended():
    model = tiny.decoder()
    with torch.no_grad():
        model.unembedding.weight[3] += 1e3 * model.norm.bias
    texts, _ = beam_search(model, tiny.ids(batch=1), max_new_tokens=8, beams=1, stop=3)
    assert texts[0, 0, 7:].tolist() == [3]


@pytest.mark.messages
@pytest.mark.parametrize("beams", [0, 1.5])
def test_a_number_of_beams_that_counts_nothing_is_refused(beams):
    with pytest.raises(
        OptionError, match=rf"beam_search: beams is 1, 2, 3, ...; got {beams}\n  fix: beams=4"
    ):
        beam_search(tiny.decoder(), tiny.ids(), max_new_tokens=2, beams=beams)
