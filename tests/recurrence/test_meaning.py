"""Each recurrence against its paper's equation, written as a loop on one head, and against numbers worked by hand."""

import pytest
import torch
from torch.nn.functional import elu

from attnkit import recurrence
from tests.recurrence.cases import KINDS, draw


def linear(query, key, value):
    # Katharopoulos et al. 2020, equations 16 to 20
    memory, normalizer, contexts = torch.zeros(4, 5).double(), torch.zeros(4).double(), []
    for q, k, v in zip(elu(query) + 1, elu(key) + 1, value, strict=True):
        memory, normalizer = memory + torch.outer(k, v), normalizer + k
        contexts.append(q @ memory / (q @ normalizer))
    return torch.stack(contexts)


def decay(query, key, value, decay):
    # Sun et al. 2023, equation 6
    memory, contexts = torch.zeros(4, 5).double(), []
    for q, k, v, gamma in zip(query, key, value, decay, strict=True):
        memory = gamma * memory + torch.outer(k, v)
        contexts.append(q @ memory)
    return torch.stack(contexts)


def gated_linear(query, key, value, decay):
    # Yang et al. 2023 (gated linear attention), equation 3
    memory, contexts = torch.zeros(4, 5).double(), []
    for q, k, v, alpha in zip(query, key, value, decay, strict=True):
        memory = torch.diag(alpha) @ memory + torch.outer(k, v)
        contexts.append(q @ memory)
    return torch.stack(contexts)


def delta(query, key, value, beta):
    # Schlag et al. 2021, section 4.2: read the old value, mix it with the new one, swap the two
    memory, contexts = torch.zeros(5, 4).double(), []
    for q, k, v, b in zip(query, key, value, beta, strict=True):
        old = memory @ k
        new = b * v + (1 - b) * old
        memory = memory - torch.outer(old, k) + torch.outer(new, k)
        contexts.append(memory @ q)
    return torch.stack(contexts)


def gated_delta(query, key, value, decay, beta):
    # Yang et al. 2024 (Gated DeltaNet), equation 10
    memory, contexts = torch.zeros(5, 4).double(), []
    for q, k, v, alpha, b in zip(query, key, value, decay, beta, strict=True):
        memory = memory @ (alpha * (torch.eye(4) - b * torch.outer(k, k))) + b * torch.outer(v, k)
        contexts.append(memory @ q)
    return torch.stack(contexts)


PAPERS = dict(zip(KINDS, (linear, decay, gated_linear, delta, gated_delta), strict=True))


def unscaled(kind, **options):
    """The papers' equations have no scale."""
    return kind(**options) if kind is recurrence.Linear else kind(scale=1.0, **options)


@pytest.mark.parametrize("order", ["steps", "parallel", "chunked"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_recurrence_is_its_papers_equation(kind, order):
    given = draw(kind, heads=3)
    context = unscaled(kind, chunk_tokens=4)(**given, order=order)
    for sample in range(2):
        for head in range(3):
            expected = PAPERS[kind](**{name: tensor[sample, head] for name, tensor in given.items()})
            torch.testing.assert_close(context[sample, head], expected, rtol=1e-10, atol=1e-10)


BY_HAND = {
    # features of 0 and 1 are 1 and 2: 3, then (1 * 3 + 2 * 6) / (1 + 2)
    recurrence.Linear: ({"query": [0, 0], "key": [0, 1]}, [3, 5]),
    # 2 * 3, then 2 * (3 / 2 + 6)
    recurrence.Decay: ({"query": [2, 2], "key": [1, 1], "decay": [0.5, 0.5]}, [6, 15]),
    recurrence.GatedLinear: ({"query": [2, 2], "key": [1, 1], "decay": [[0.5], [0.5]]}, [6, 15]),
    # the memory is 3 / 2, then 3 / 2 + (6 - 3 / 2) / 2 = 15 / 4
    recurrence.Delta: ({"query": [2, 2], "key": [1, 1], "beta": [0.5, 0.5]}, [3, 7.5]),
    # 3 / 2, then 3 / 4 + (6 - 3 / 4) / 2 = 27 / 8
    recurrence.GatedDelta: (
        {"query": [2, 2], "key": [1, 1], "decay": [0.5, 0.5], "beta": [0.5, 0.5]},
        [3, 6.75],
    ),
}


@pytest.mark.parametrize("order", ["steps", "parallel", "chunked"])
@pytest.mark.parametrize("kind", KINDS)
def test_two_tokens_with_values_3_and_6_give_what_was_worked_by_hand(kind, order):
    numbers, expected = BY_HAND[kind]
    given = {name: torch.tensor([numbers[name]]).float() for name in numbers}
    given |= {name: given[name].unsqueeze(-1) for name in ("query", "key")}
    context = unscaled(kind)(**given, value=torch.tensor([[[3.0], [6.0]]]), order=order)
    assert context.flatten().tolist() == pytest.approx(expected)


def test_a_gate_of_its_own_fades_each_channel():
    # channel 0 forgets, channel 1 halves: 1 + 1 of the first token, then (0 + 1) + (1 / 2 + 1)
    one, gate = torch.ones(1, 2, 2), torch.tensor([[[0.0, 0.5]]])
    context = recurrence.GatedLinear(scale=1.0)(one, one, torch.ones(1, 2, 1), decay=gate)
    assert context.flatten().tolist() == [2.0, 2.5]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not recurrence.Linear])
def test_weights_are_scaled_by_the_root_of_head_dim(kind):
    given = draw(kind)
    torch.testing.assert_close(kind()(**given), kind(scale=0.5)(**given))  # head_dim is 4


@pytest.mark.parametrize("kind", KINDS)
def test_query_head_h_reads_kv_head_h_over_group(kind):
    given = draw(kind)
    own = {
        name: tensor if name == "query" else tensor.repeat_interleave(2, dim=1)
        for name, tensor in given.items()
    }
    torch.testing.assert_close(kind()(**given), kind()(**own))


def test_a_decay_of_one_makes_the_gated_delta_rule_the_delta_rule():
    given = draw(recurrence.Delta)
    gated = recurrence.GatedDelta()(**given, decay=torch.ones(3, 1))
    torch.testing.assert_close(gated, recurrence.Delta()(**given))


def test_channels_that_fade_alike_are_a_decay_of_the_head():
    given = draw(recurrence.Decay)
    alike = {**given, "decay": given["decay"].unsqueeze(-1)}
    torch.testing.assert_close(recurrence.GatedLinear()(**alike), recurrence.Decay()(**given))


def test_a_beta_of_zero_writes_nothing():
    given = {**draw(recurrence.Delta), "beta": torch.zeros(3, 1)}
    assert recurrence.Delta()(**given).abs().max() == 0


def test_one_number_a_head_is_that_number_at_each_token():
    given = draw(recurrence.Decay)
    heads = torch.tensor([[0.25], [0.5], [1.0]])
    alike = recurrence.Decay()(**{**given, "decay": heads})
    torch.testing.assert_close(alike, recurrence.Decay()(**{**given, "decay": heads.expand(2, 3, 13)}))


def test_features_that_all_underflow_give_a_context_of_zero():
    # exp(-200) is 0 in float32: nothing is read, and 0 / 0 must not be
    query = torch.full((1, 3, 2), -200.0, requires_grad=True)
    context = recurrence.Linear()(query, query, torch.ones(1, 3, 5))
    context.sum().backward()
    assert context.abs().max() == 0
    assert query.grad.abs().max() == 0


def test_small_features_keep_their_digits():
    # elu(-20) + 1 is 0 in float32; the weights are equal, so the contexts are the running means of 1, 3, 8
    query = torch.full((1, 3, 2), -20.0)
    context = recurrence.Linear()(query, query, torch.tensor([[[1.0], [3.0], [8.0]]]))
    assert context.flatten().tolist() == pytest.approx([1.0, 2.0, 4.0])


def test_large_features_have_gradients():
    # exp(100) is infinite in float32, and 0 * inf would be nan; the features are 101, and one token reads itself alone
    query = torch.full((1, 1, 2), 100.0, requires_grad=True)
    recurrence.Linear()(query, query, torch.ones(1, 1, 1)).sum().backward()
    assert query.grad.abs().max() == 0


def test_retention_decays_are_those_of_the_paper():
    # 1 - 1/32, 1 - 1/64, 1 - 1/128
    assert recurrence.retention_decay(3).tolist() == [[0.96875], [0.984375], [0.9921875]]
