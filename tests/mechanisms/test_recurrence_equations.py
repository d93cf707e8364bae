"""Each recurrent mechanism against its paper's equation by loops over pairs, and against numbers worked by hand."""

import math

import pytest
import torch

from attnkit import positions
from attnkit.catalog import find
from attnkit.errors import OptionError
from attnkit.laws import Trial
from attnkit.mechanism import Learned
from tests.oracles.recurrence_equations import EQUATIONS

CASES = [
    ("linear", {}),
    ("retention", {}),
    ("retention", {"first_exponent": 1.0}),
    ("gated_linear", {}),
    ("gated_linear", {"temperature": 1.0}),
    ("delta", {}),
    ("state_space", {}),
    ("gated_delta", {}),
]


def by_equation(mechanism, tensors, options):
    """The paper's equation, head by head; query head h reads kv head h // 2."""
    learned = {part.name for part in mechanism.parts if isinstance(part, Learned)}
    samples = []
    for sample in range(2):
        heads = []
        for head in range(6):
            own = {
                name: t[head // 2] if name in learned else t[sample, head // 2] for name, t in tensors.items()
            }
            own["query"] = tensors["query"][sample, head]
            if mechanism.name == "retention":
                own["head"] = head // 2
            heads.append(EQUATIONS[mechanism.name](**own, **options))
        samples.append(torch.stack(heads))
    return torch.stack(samples)


@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_a_mechanism_is_its_papers_equation_and_so_are_its_gradients(name, options):
    mechanism = find(name)
    trial = Trial.of(mechanism, options | {"chunk_tokens": 2})
    leaves = trial.map(lambda _, tensor: tensor.clone().requires_grad_())
    context, expected = leaves.context, by_equation(mechanism, leaves.tensors, options)
    torch.testing.assert_close(context, expected, rtol=1e-10, atol=1e-10)
    probe = torch.randn(context.shape, dtype=torch.float64)
    found, wanted = (
        torch.autograd.grad((x * probe).sum(), list(leaves.tensors.values())) for x in (context, expected)
    )
    for part, gradient, truth in zip(leaves.tensors, found, wanted, strict=True):
        torch.testing.assert_close(
            gradient, truth, rtol=1e-8, atol=1e-8, msg=lambda text, part=part: f"{part}: {text}"
        )


LN_2 = math.log(2)
BY_HAND = [
    # features of 0 and 1 are 1 and 2: 3, then (1 * 3 + 2 * 6) / (1 + 2)
    ("linear", {"query": [0, 0], "key": [0, 1]}, {}, {}, [3, 5]),
    # a decay of 1 - 2 ** -1 = 1/2: 2 * 3, then 2 * (3 / 2 + 6)
    ("retention", {"query": [2, 2], "key": [1, 1]}, {}, {"first_exponent": 1.0}, [6, 15]),
    # sigmoid(-log 3) = 1/4, whose root is 1/2: as retention
    (
        "gated_linear",
        {"query": [2, 2], "key": [1, 1]},
        {"gate": [-math.log(3), -math.log(3)]},
        {"temperature": 2.0},
        [6, 15],
    ),
    # query and key become 1; the memory is 3 / 2, then 3 / 2 + (6 - 3 / 2) / 2
    ("delta", {"query": [2, 2], "key": [5, 5]}, {"beta": [0.5, 0.5]}, {}, [1.5, 3.75]),
    # softplus(0) = log 2, which is written; a rate of 1 makes of it a decay of exp(-log 2) = 1/2
    ("state_space", {"query": [2, 2], "key": [1, 1]}, {"step": [0, 0]}, {}, [6 * LN_2, 15 * LN_2]),
    # the same decay: 3 / 2, then 3 / 4 + (6 - 3 / 4) / 2
    (
        "gated_delta",
        {"query": [2, 2], "key": [5, 5]},
        {"beta": [0.5, 0.5], "step": [0, 0]},
        {},
        [1.5, 3.375],
    ),
]


@pytest.mark.parametrize(
    ("name", "tokens", "parts", "options", "expected"), BY_HAND, ids=[c[0] for c in BY_HAND]
)
def test_two_tokens_with_values_3_and_6_give_what_was_worked_by_hand(name, tokens, parts, options, expected):
    def one_head(numbers):
        return torch.tensor(numbers).double().reshape(1, 2, 1)

    tokens, parts = ({key: one_head(x) for key, x in given.items()} for given in (tokens, parts))
    if "step" in parts:
        parts |= {"step_bias": torch.zeros(1).double(), "log_rate": torch.zeros(1).double()}
    context = find(name)(**tokens, value=one_head([3, 6]), parts=parts, **options)
    assert context.flatten().tolist() == pytest.approx(expected)


def test_a_fresh_retention_forgets_as_the_paper_says():
    key = torch.ones(1, 8, 3, 4)
    weights = find("retention").weights(key, key, scale=0.25)
    # all scores are 4 / 4; equation 8: head h keeps 1 - 2 ** (-5 - h) with each token
    decays = torch.tensor(
        [31 / 32, 63 / 64, 127 / 128, 255 / 256, 511 / 512, 1023 / 1024, 2047 / 2048, 4095 / 4096]
    )
    torch.testing.assert_close(weights[0, :, 2, 0], decays**2)
    torch.testing.assert_close(weights[0, :, 2, 2], torch.ones(8))


@pytest.mark.parametrize("name", ["gated_linear", "state_space", "gated_delta"])
def test_decays_are_told_apart_from_one_in_half_precision(name):
    # a gate of 6 is sigmoid(6) ** (1/16) = 0.99984..., a step of -9 a decay of exp(-1.2e-4): 1 in bfloat16
    mechanism = find(name)
    trial = Trial.of(mechanism, {}, dtype=torch.bfloat16)
    marked = {"gate": 6.0, "step": -9.0, "step_bias": 0.0, "log_rate": 0.0}
    tensors = trial.map(lambda part, t: torch.full_like(t, marked[part]) if part in marked else t).tensors
    given = {k: v for k, v in tensors.items() if k != "value" and (k != "query" or name == "gated_delta")}
    if name == "gated_linear":
        del given["key"]
    decay = mechanism.prepare(**given)["decay"]
    assert decay.dtype == torch.float32
    assert 0.9998 < decay.min() <= decay.max() < 0.9999
    assert decay.bfloat16().min() == 1


def test_a_layer_starts_with_steps_from_a_thousandth_to_a_tenth_and_rates_from_1_to_16():
    parts = {part.name: part for part in find("state_space").parts}
    steps = torch.nn.functional.softplus(parts["step_bias"].start((3,)))
    torch.testing.assert_close(steps, torch.tensor([0.001, 0.01, 0.1]))
    torch.testing.assert_close(parts["log_rate"].start((4,)).exp(), torch.tensor([1.0, 6.0, 11.0, 16.0]))


@pytest.mark.messages
@pytest.mark.parametrize("given", [0.0, -1, float("nan"), "5"])
def test_a_first_exponent_is_above_zero(given):
    with pytest.raises(OptionError, match=r"retention: .* so that is above 0; got (?s:.*)5.0 is the paper's"):
        Trial.of(find("retention"), {"first_exponent": given}).called()


@pytest.mark.messages
@pytest.mark.parametrize("given", [0.0, -16, float("nan"), "16"])
def test_a_temperature_is_above_zero(given):
    with pytest.raises(
        OptionError, match=r"gated_linear: .*temperature is above 0; got(?s:.*)16.0 is the paper's"
    ):
        Trial.of(find("gated_linear"), {"temperature": given}).called()


@pytest.mark.parametrize(
    ("name", "relative"),
    [("retention", True), ("state_space", True), ("delta", True), ("linear", False), ("gated_linear", False)],
)
def test_rotary_positions_tell_distances_where_channels_are_summed_alike(name, relative):
    # turned by positions 0 to 6 or 5 to 11, weights are the same where they depend on distances alone
    trial, turn = Trial.of(find(name), {}), positions.Rotary()

    def turned(start):
        at = torch.arange(start, start + 7)
        return trial.map(lambda part, t: turn.rotate(t, at) if part in ("query", "key") else t).context

    off = (turned(0) - turned(5)).abs().max()
    assert off < 1e-9 if relative else off > 0.01
