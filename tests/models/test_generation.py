"""Writing: what is chosen, with what probability, and that caches and padding change nothing else."""

import math

import pytest
import torch

from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.models import Choice, generate, stream
from attnkit.positions import Rotary
from tests.models import tiny

THREE_WINDOWS = {"num_layers": 4, "attention": tiny.THREE_WINDOWS, "positions": None}
ROTARY = {"attention": ({"mechanism": "causal", "positions": Rotary()},), "positions": None}
SHAPES = [
    pytest.param({}, id="learned"),
    pytest.param({"positions": "sinusoidal"}, id="sinusoidal"),
    pytest.param(ROTARY, id="rotary"),
    pytest.param(THREE_WINDOWS, id="three-windows"),
    pytest.param({"attention": ({"mechanism": "gated_delta"}, {"mechanism": "causal"})}, id="recurrent"),
]


def by_hand(model, tokens, count):
    """The likeliest token, again and again, with the whole text read anew each time."""
    for _ in range(count):
        tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(-1)], 1)
    return tokens


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_takes_the_likeliest_token_each_time(shape):
    model, tokens = tiny.decoder(**shape), tiny.ids()
    assert torch.equal(generate(model, tokens, max_new_tokens=8), by_hand(model, tokens, 8))


@pytest.mark.parametrize("shape", SHAPES)
def test_texts_of_other_lengths_are_written_as_each_alone(shape):
    model, tokens, mask = tiny.decoder(**shape), tiny.ids(batch=3), tiny.padding(0, 3, 6)
    found = generate(model, tokens, max_new_tokens=6, mask=mask)
    for text, missing in enumerate([0, 3, 6]):
        alone = generate(model, tokens[text : text + 1, missing:], max_new_tokens=6)
        assert torch.equal(found[text : text + 1, missing:], alone)


def test_the_last_token_may_be_the_first_that_the_model_cannot_read():
    # 16 tokens can be read, so the 17th can be written
    assert generate(tiny.decoder(), tiny.ids(), max_new_tokens=10).shape == (2, 17)


def test_what_follows_stop_is_stop():
    model, tokens = tiny.decoder(), tiny.ids(batch=3)
    free = generate(model, tokens, max_new_tokens=8)[:, tiny.LENGTH :]
    stop = int(free[0, 2])
    found = generate(model, tokens, max_new_tokens=8, stop=stop)[:, tiny.LENGTH :]
    for written, text in zip(found.tolist(), free.tolist(), strict=True):
        end = text.index(stop) + 1 if stop in text else len(text)
        assert written == (text[:end] + [stop] * 8)[: len(written)]
    assert stop in found[0].tolist()


def test_writing_ends_where_all_texts_have_ended():
    model, tokens = tiny.decoder(), tiny.ids(batch=1)
    stop = int(generate(model, tokens, max_new_tokens=3)[0, -1])
    found = generate(model, tokens, max_new_tokens=8, stop=stop)[0, tiny.LENGTH :].tolist()
    assert found.index(stop) == len(found) - 1 < 3


def test_a_stream_yields_each_token_when_it_is_chosen():
    model, tokens, read = tiny.decoder(), tiny.ids(), []
    model.embedding.register_forward_hook(lambda module, given, output: read.append(given[0].shape[-1]))
    yielded = []
    for new in stream(model, tokens, max_new_tokens=4):
        yielded.append(new)
        assert read == [tiny.LENGTH, 1, 1, 1][: len(yielded)]  # nothing is read ahead
    assert torch.equal(torch.stack(yielded, 1), by_hand(model, tokens, 4)[:, tiny.LENGTH :])


def test_writing_asks_no_gradient_and_leaves_the_callers_mode_alone():
    model = tiny.decoder()
    steps = stream(model, tiny.ids(), max_new_tokens=3, choice=Choice(temperature=1.0))
    next(steps)
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


def probabilities(*shares):
    return torch.tensor([shares], dtype=torch.float64)


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [
        (0.39, [1]),  # the first alone reaches it
        (0.41, [1, 3]),  # 0.4 does not, 0.4 + 0.3 does
        (0.69, [1, 3]),
        (0.71, [1, 3, 0]),
        (0.91, [0, 1, 2, 3]),
        (1.0, [0, 1, 2, 3]),
    ],
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p, kept):
    shares = probabilities(0.2, 0.4, 0.1, 0.3)
    wanted = torch.zeros_like(shares)
    wanted[0, kept] = shares[0, kept] / shares[0, kept].sum()
    torch.testing.assert_close(Choice(temperature=1.0, top_p=top_p).likely(shares.log()), wanted)


def test_top_k_keeps_so_many_even_where_some_are_equal():
    found = Choice(temperature=1.0, top_k=2).likely(torch.zeros(1, 5))
    assert sorted(found[0].tolist()) == [0, 0, 0, 0.5, 0.5]


def test_top_k_acts_before_top_p():
    # of the two likeliest, 4/7 and 3/7, the first alone reaches a half; of all, 0.4 does not
    found = Choice(temperature=1.0, top_k=2, top_p=0.5).likely(probabilities(0.2, 0.4, 0.1, 0.3).log())
    assert found.tolist() == [[0, 1, 0, 0]]


def test_more_than_there_are_can_be_kept():
    shares = probabilities(0.2, 0.4, 0.1, 0.3)
    torch.testing.assert_close(Choice(temperature=1.0, top_k=9).likely(shares.log()), shares)


def test_temperature_divides_logits():
    # p^(1/T): halves become squares
    shares = probabilities(0.2, 0.4, 0.1, 0.3)
    torch.testing.assert_close(Choice(temperature=0.5).likely(shares.log()), shares**2 / (shares**2).sum())


def test_a_temperature_near_zero_is_greedy():
    logits = 1e4 * torch.randn(3, 7)
    for dtype in (torch.float32, torch.bfloat16):
        found = Choice(temperature=1e-36).likely(logits.to(dtype))
        assert found.isfinite().all()
        assert torch.equal(found.argmax(-1), logits.to(dtype).argmax(-1))


def test_tokens_are_drawn_as_often_as_they_are_likely():
    # chi-square of 4 - 1 degrees of freedom: above 21.1 once in 10,000 runs, and the seed is fixed
    shares, draws = probabilities(0.2, 0.4, 0.1, 0.3), 40_000
    generator = torch.Generator().manual_seed(3)
    drawn = Choice(temperature=1.0, generator=generator)(shares.log().expand(draws, -1))
    counts = drawn.bincount(minlength=4)
    assert (((counts - draws * shares[0]) ** 2) / (draws * shares[0])).sum() < 21.1


def test_each_text_draws_for_itself():
    model = tiny.decoder()
    found = generate(
        model, tiny.ids(batch=1).expand(64, -1), max_new_tokens=1, choice=Choice(temperature=3.0)
    )
    assert len(set(found[:, -1].tolist())) > 1


def test_a_generator_repeats_a_text():
    model, tokens = tiny.decoder(), tiny.ids()
    one, two, other = (
        generate(
            model,
            tokens,
            max_new_tokens=9,
            choice=Choice(temperature=2.0, top_p=0.9, generator=torch.Generator().manual_seed(seed)),
        )
        for seed in (7, 7, 8)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"temperature": -1},
            r"Choice: temperature is a number from 0 on; got -1\n  fix: temperature=0.8; 0 is gr",
        ),
        ({"temperature": math.nan}, r"temperature is a number from 0 on; got nan"),
        ({"temperature": "hot"}, r"temperature is a number from 0 on; got 'hot'"),
        ({"temperature": 1.0, "top_k": 0}, r"Choice: top_k is 1, 2, 3, ...; got 0\n  fix: top_k=50"),
        ({"temperature": 1.0, "top_k": 2.5}, r"top_k is 1, 2, 3, ...; got 2.5"),
        ({"temperature": 1.0, "top_p": 0.0}, r"top_p is above 0, at most 1; got 0.0\n  fix: top_p=0.9"),
        ({"temperature": 1.0, "top_p": 1.5}, r"top_p is above 0, at most 1; got 1.5"),
        ({"temperature": 1.0, "top_p": "all"}, r"top_p is above 0, at most 1; got 'all'"),
        ({"top_k": 5}, r"temperature=0 takes the most likely token, .*'top_k': 5.*\n  fix: temperature=1.0"),
    ],
)
def test_choices_that_mean_nothing_are_refused(given, text):
    with pytest.raises(OptionError, match=text):
        Choice(**given)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        (
            {"tokens": tiny.ids(length=0)},
            ShapeError,
            r"generate: tokens have shape \(2, 0\);.*len at least 1\n  fix: ",
        ),
        ({"tokens": torch.tensor([1, 2])}, ShapeError, r"tokens have shape \(2,\)"),
        (
            {"tokens": "Hello"},
            ShapeError,
            r"tokens have type str;.*\n  fix: torch.tensor\(\[tokenizer.encode",
        ),
        (
            {"tokens": torch.rand(2, 3)},
            DtypeError,
            r"tokens are whole numbers \(batch, len\); got torch.float32",
        ),
        (
            {"tokens": torch.tensor([[50]])},
            OptionError,
            r"token 50 is not in the vocabulary of 11\n  fix: use the t",
        ),
        (
            {"max_new_tokens": 11},
            ShapeError,
            r"7 tokens and 11 new ones .* context_length=16 .*\n.*max_new_tokens=10",
        ),
        (
            {"max_new_tokens": 0},
            OptionError,
            r"generate: max_new_tokens is 1, 2, .*; got 0\n.*max_new_tokens=20",
        ),
        (
            {"stop": 11},
            OptionError,
            r"stop is one token of the vocabulary of 11, a whole number; got 11\n  fix: stop",
        ),
        ({"stop": "."}, OptionError, r"stop is one token of the vocabulary of 11, a whole number; got '.'"),
        (
            {"choice": "greedy"},
            OptionError,
            r"choice is a Choice; got 'greedy'\n  fix: choice=Choice\(temperature",
        ),
        (
            {"mask": tiny.padding(0, 3).flip(-1)},
            OptionError,
            r"padded on its right.*\n  fix: pad on the left",
        ),
        ({"mask": tiny.padding(0, 0, length=6)}, ShapeError, r"generate: mask \(2, 6\) is no \(2, 7\)"),
        (
            {"mask": torch.ones(2, 7)},
            DtypeError,
            r"generate: mask is bool.*got torch.float32\n  fix: mask.bool\(\)",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(given, kind, text):
    with pytest.raises(kind, match=text):
        generate(tiny.decoder(), **({"tokens": tiny.ids(), "max_new_tokens": 3} | given))


@pytest.mark.messages
def test_a_stream_refuses_before_its_first_token():
    with pytest.raises(OptionError, match=r"max_new_tokens is 1"):
        stream(tiny.decoder(), tiny.ids(), max_new_tokens=0)
