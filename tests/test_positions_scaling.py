"""Stretched frequencies: by hand, and as transformers 5.24 computes them (`ROPE_INIT_FUNCTIONS`)."""

import math

import pytest
import torch

from attnkit.errors import OptionError
from attnkit.positions import NTK, Linear, Llama3, Rotary, Yarn

EVERY = pytest.mark.parametrize(
    "scale",
    [Linear, NTK, lambda factor: Yarn(factor, original_tokens=64), Llama3],
    ids=["linear", "ntk", "yarn", "llama 3"],
)


def frequencies(scaling, *, base=10000.0, rotary_dim=16):
    """In radians a token: the angle of position 1, which is below pi."""
    cos, sin = Rotary(base=base, scaling=scaling).tables(
        torch.tensor([1]), rotary_dim=rotary_dim, dtype=torch.float64
    )
    return torch.atan2(sin, cos).flatten()


def turns(frequency, tokens):
    return frequency * tokens / (2 * math.pi)


PLAIN = frequencies(None)


def test_without_scaling_frequencies_fall_evenly_from_one():
    # 10000 ** (-i / 8): 1, 10 ** -0.5, 10 ** -1, ...
    torch.testing.assert_close(PLAIN, torch.tensor([10 ** (-i / 2) for i in range(8)], dtype=torch.float64))


@EVERY
def test_a_factor_of_one_changes_nothing(scale):
    x, positions = torch.randn(2, 3, 4, 16, dtype=torch.float64), torch.tensor([0, 5, 50, 500])
    torch.testing.assert_close(Rotary(scaling=scale(1)).rotate(x, positions), Rotary().rotate(x, positions))


@EVERY
def test_no_frequency_grows_and_none_shrinks_by_more_than_the_factor(scale):
    ratio = frequencies(scale(8.0)) / PLAIN
    assert ratio.max() <= 1 + 1e-12
    assert ratio.min() >= 1 / 8 - 1e-12
    assert (ratio.diff() <= 1e-12).all()


def test_linear_divides_every_position():
    x = torch.randn(1, 4, 16, dtype=torch.float64)
    stretched = Rotary(scaling=Linear(4.0)).rotate(x, 4 * torch.arange(4))
    torch.testing.assert_close(stretched, Rotary().rotate(x, torch.arange(4)))


def test_ntk_is_a_larger_base():
    # of 16 numbers: by factor ** (16 / 14)
    torch.testing.assert_close(frequencies(NTK(3.0)), frequencies(None, base=10000.0 * 3.0 ** (16 / 14)))


def test_ntk_keeps_the_fastest_and_divides_the_slowest_by_the_factor():
    ratio = frequencies(NTK(4.0)) / PLAIN
    torch.testing.assert_close(ratio[[0, -1]], torch.tensor([1.0, 0.25], dtype=torch.float64))


def test_llama_3_by_hand():
    # base 500,000, 8,192 tokens: the pairs turn 1303.8, 252.8, 49.0, 9.51, 1.84, 0.36, ... times.
    # Four or more: kept. Less than one: divided by 8. 1.84 lies (1.84 - 1) / 3 of the way between
    plain = frequencies(None, base=500_000.0)
    assert [round(t, 2) for t in turns(plain, 8192)[2:6].tolist()] == [49.03, 9.51, 1.84, 0.36]
    share = (turns(plain[4], 8192) - 1) / 3
    expected = plain * torch.tensor([1, 1, 1, 1, 0, 1 / 8, 1 / 8, 1 / 8], dtype=torch.float64)
    expected[4] = plain[4] * (share + (1 - share) / 8)
    torch.testing.assert_close(frequencies(Llama3(), base=500_000.0), expected)


def test_yarn_by_hand():
    # 16 numbers, base 10,000, 4,096 tokens: 32 turns are made at i = 8 ln(4096 / 64 pi) / ln 10000 = 2.62, one turn at
    # 5.63; in whole pairs 2 and 6. Pairs 0 to 2 are kept, 6 and 7 divided by 4, and 3, 4, 5 keep 3/4, 1/2, 1/4
    keep = torch.tensor([1, 1, 1, 0.75, 0.5, 0.25, 0, 0], dtype=torch.float64)
    found = frequencies(Yarn(4.0, original_tokens=4096))
    torch.testing.assert_close(found, PLAIN * (keep + (1 - keep) / 4))


def test_the_ramp_of_yarn_begins_at_the_first_pair_at_the_earliest():
    # 64 tokens: 32 turns would be made at i = -0.99, one at 2.02; in whole pairs -1, which becomes 0, and 3
    keep = torch.tensor([1, 2 / 3, 1 / 3, 0, 0, 0, 0, 0], dtype=torch.float64)
    found = frequencies(Yarn(4.0, original_tokens=64))
    torch.testing.assert_close(found, PLAIN * (keep + (1 - keep) / 4))


def test_the_ramp_of_yarn_ends_at_the_last_number_at_the_latest():
    # base 2: 32 turns at -13.2, one at 26.8, which becomes 15, of 16 numbers and not of 8 pairs: the released code
    keep = torch.tensor([1 - i / 15 for i in range(8)], dtype=torch.float64)
    found = frequencies(Yarn(4.0, original_tokens=64), base=2.0)
    torch.testing.assert_close(found, frequencies(None, base=2.0) * (keep + (1 - keep) / 4))


def test_a_ramp_of_yarn_without_length_is_a_step():
    # 5 tokens: not one turn is made, and both ends become 0
    keep = torch.tensor([1, 0, 0, 0, 0, 0, 0, 0], dtype=torch.float64)
    found = frequencies(Yarn(4.0, original_tokens=5))
    torch.testing.assert_close(found, PLAIN * (keep + (1 - keep) / 4))


def test_yarn_may_ramp_between_parts_of_a_pair():
    # the same ramp from 2.62 to 5.63, not rounded outwards
    low, high = (8 * math.log(4096 / (turns * 2 * math.pi)) / math.log(10_000) for turns in (32, 1))
    keep = torch.tensor([1 - min(max((i - low) / (high - low), 0), 1) for i in range(8)], dtype=torch.float64)
    found = frequencies(Yarn(4.0, original_tokens=4096, truncate=False))
    torch.testing.assert_close(found, PLAIN * (keep + (1 - keep) / 4))


@pytest.mark.parametrize(
    ("scaling", "base", "expected"),
    [
        (
            Llama3(),
            500_000.0,
            [1.0, 0.193923, 0.037606, 0.00729267, 0.000524846, 3.4281e-05, 6.64787e-06, 1.28917e-06],
        ),
        (
            Yarn(4.0, original_tokens=4096),
            1e4,
            [1.0, 0.316228, 0.1, 0.0256935, 0.00625, 0.0013835, 0.00025, 7.90569e-05],
        ),
        (
            Yarn(4.0, original_tokens=4096, truncate=False),
            1e4,
            [1.0, 0.316228, 0.1, 0.0286136, 0.00655697, 0.00128563, 0.00025, 7.90569e-05],
        ),
        # "dynamic" with factor 2 at twice the length of training: 2 * 2 - 1 = 3
        (
            NTK(3.0),
            1e4,
            [1.0, 0.270296, 0.07306, 0.0197478, 0.00533776, 0.00144278, 0.000389977, 0.000105409],
        ),
    ],
    ids=["llama 3", "yarn", "yarn without truncation", "ntk"],
)
def test_frequencies_are_those_of_transformers(scaling, base, expected):
    # head_dim 16, printed to six figures
    found = frequencies(scaling, base=base)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=5e-6, atol=0)


def test_yarn_multiplies_scores_by_the_square_of_its_attention_factor():
    # the paper: 0.1 ln 4 + 1 = 1.1386, for the query and for the key
    x, positions = torch.randn(1, 1, 16, dtype=torch.float64), torch.tensor([1000])
    turned = Rotary(scaling=Yarn(4.0, original_tokens=64)).rotate(x, positions)
    torch.testing.assert_close(turned @ turned.mT, 1.138629436111989**2 * x @ x.mT)


def test_the_attention_factor_of_yarn_may_be_given():
    assert Yarn(4.0, original_tokens=64, attention_factor=1).magnitude == 1.0


def test_yarn_leaves_numbers_that_do_not_turn_at_their_size():
    # as transformers does: the factor sits in cosine and sine
    x = torch.ones(1, 1, 16)
    turned = Rotary(rotary_dim=8, scaling=Yarn(4.0, original_tokens=64)).rotate(x, torch.tensor([3]))
    assert torch.equal(turned[..., 8:], x[..., 8:])


@pytest.mark.messages
@EVERY
@pytest.mark.parametrize("factor", [0.5, 0, -2.0, math.nan, math.inf, True, "4", None])
def test_a_factor_that_does_not_stretch_is_refused(scale, factor):
    with pytest.raises(
        OptionError, match=r"factor is a finite number from 1 upwards; got (?s:.*)leave scaling out"
    ):
        scale(factor)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"original_tokens": 0},
            r"original_tokens is a finite number from 1 upwards; got 0(?s:.*)max_position",
        ),
        ({"original_tokens": None}, r"original_tokens is (?s:.*)got None"),
        ({"slow_turns": 0}, r"slow_turns is a finite number above 0; got 0\n  fix: slow_turns=1\.0"),
        (
            {"fast_turns": 0.5},
            r"fast_turns is a finite number from 1 upwards; got 0\.5(?s:.*)not fewer than slow_turns",
        ),
        (
            {"attention_factor": 0.0},
            r"attention_factor is a finite number above 0; got 0\.0(?s:.*)leave it out",
        ),
    ],
)
def test_options_of_yarn_out_of_range_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Yarn(4.0, **({"original_tokens": 64} | options))


@pytest.mark.messages
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"original_tokens": math.nan}, r"original_tokens is (?s:.*)got nan"),
        ({"low_frequency_factor": 0}, r"low_frequency_factor is a finite number above 0; got 0"),
        ({"high_frequency_factor": -1}, r"high_frequency_factor is a finite number above 0; got -1"),
        (
            {"low_frequency_factor": 4.0},
            r"high_frequency_factor is above low_frequency_factor; got 4\.0 and 4\.0",
        ),
    ],
)
def test_options_of_llama_3_out_of_range_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Llama3(**options)


@pytest.mark.messages
def test_ntk_cannot_stretch_one_pair():
    with pytest.raises(OptionError, match=r"with rotary_dim=2 there is one pair(?s:.*)Linear\(factor\)"):
        Rotary(scaling=NTK(4.0)).rotate(torch.ones(1, 1, 2), torch.tensor([1]))
