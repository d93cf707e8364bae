"""Stick-breaking: by hand, against a stick of plain Python numbers, and where numbers are hard."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from attnkit import Rule, masks
from attnkit.mechanisms.stick_breaking import BEFORE, MECHANISM
from attnkit.normalizers import StickBreaking, softmax_sink
from tests.helpers import inputs
from tests.oracles import heads_loops as loops

NORMALIZER = StickBreaking()


def scores(*, spread=3.0, dtype=torch.float64, grad=False):
    """Of 2 samples, 3 heads, 5 queries and 7 keys."""
    drawn = spread * torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return drawn.to(dtype).requires_grad_(grad)


def keep():
    """Of one row nothing is kept, of one a single key, of one everything, and of the others some."""
    kept = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(2)) < 0.6
    kept[:, :, 1] = False
    kept[:, :, 2] = torch.arange(7) == 4
    kept[:, :, 3] = True
    return kept


def broken(row, kept):
    """One row of weights, by the oracle."""
    places = kept.nonzero().flatten().tolist()
    weights = torch.zeros(7, dtype=torch.float64)
    weights[places] = torch.tensor(loops.stick_breaking(row[places].tolist()), dtype=torch.float64)
    return weights


def test_the_weights_are_those_of_a_stick_that_is_broken_from_the_last_key_on():
    kept, weights = keep().expand(2, 3, 5, 7).flatten(0, 2), NORMALIZER(scores(), keep()).flatten(0, 2)
    rows = zip(scores().flatten(0, 2), kept, strict=True)
    torch.testing.assert_close(weights, torch.stack([broken(*row) for row in rows]), rtol=0, atol=1e-13)


def test_three_shares_by_hand():
    # sigmoid(ln 3) = 3/4, sigmoid(0) = 1/2, sigmoid(-ln 3) = 1/4, from the last: 1/4, then 1/2 of 3/4, then 3/4 of 3/8
    row = torch.tensor([3.0, 1.0, 1 / 3], dtype=torch.float64).log()
    torch.testing.assert_close(
        NORMALIZER(row[None], None), torch.tensor([[9 / 32, 3 / 8, 1 / 4]], dtype=torch.float64)
    )


def test_of_two_keys_that_score_alike_the_later_one_gets_more():
    weights = NORMALIZER(torch.tensor([[1.0, 1.0]]), None)
    assert weights[0, 1] > weights[0, 0]


def test_a_query_does_not_read_itself_and_the_first_reads_nothing():
    query, key, value = inputs(q_len=7, kv_len=7)
    weights = MECHANISM.weights(query, key)
    assert torch.equal(weights.diagonal(dim1=-2, dim2=-1), torch.zeros(2, 3, 7))
    assert torch.equal(MECHANISM(query, key, value)[..., 0, :], torch.zeros(2, 3, 8))


@pytest.mark.parametrize("mask", [BEFORE, masks.causal], ids=["before", "causal"])
def test_the_mechanism_is_what_rows_of_plain_numbers_give(mask):
    query, key, value = inputs(heads=6, kv_heads=3, dtype=torch.float64)
    context = MECHANISM.rule(mask=mask)(query, key, value)
    last = 0 if mask is masks.causal else 1
    expected = loops.attended(query, key, value, loops.stick_breaking, keep=lambda q, k: k <= q - last)
    torch.testing.assert_close(context, expected, rtol=0, atol=1e-12)


def test_what_is_not_weighed_is_what_nobody_broke_off():
    rest = (1 - scores().sigmoid()).prod(-1)
    torch.testing.assert_close(1 - NORMALIZER(scores(), None).sum(-1), rest, rtol=0, atol=1e-13)


def test_hidden_keys_weigh_exactly_nothing_and_hiding_is_leaving_out():
    weights = NORMALIZER(scores(), keep())
    assert (weights.masked_select(~keep()) == 0).all()
    kept = torch.tensor([True, False, True, True, False, True, True])
    torch.testing.assert_close(
        NORMALIZER(scores(), kept.expand(5, 7))[..., kept], NORMALIZER(scores()[..., kept], None)
    )


def test_a_dead_row_is_zero_and_passes_no_gradient_on():
    drawn = scores(grad=True)
    weights = NORMALIZER(drawn, keep())
    (weights * torch.randn_like(weights)).sum().backward()
    nothing = torch.zeros(2, 3, 7, dtype=torch.float64)
    assert torch.equal(weights[:, :, 1], nothing)
    assert torch.equal(drawn.grad[:, :, 1], nothing)


@pytest.mark.parametrize("junk", [1e30, -1e30, torch.inf, -torch.inf, torch.nan])
def test_what_a_hidden_key_scores_does_not_matter(junk):
    drawn = scores(grad=True)
    weights = NORMALIZER(drawn.masked_fill(~keep(), junk), keep())
    weights.square().sum().backward()
    assert torch.equal(weights, NORMALIZER(scores(), keep()))
    assert drawn.grad.isfinite().all()


def test_nan_among_the_scores_that_are_read_is_not_swept_away():
    drawn = scores()
    drawn[0, 0, 3, 2] = torch.nan
    weights = NORMALIZER(drawn, keep())
    # the later keys have had their share before
    assert weights[0, 0, 3].isnan().tolist() == [True] * 3 + [False] * 4
    assert weights.isnan().sum() == 3


def test_a_key_of_large_score_takes_just_what_the_later_ones_left():
    # log(1 - share) of the first is -10000; a sum that it went in and out of again would err by 1e-3 in float32
    row = torch.tensor([[1e4, 0.7, -0.4]])
    left = (1 - row[0, 1:].double().sigmoid()).prod()
    torch.testing.assert_close(NORMALIZER(row, None)[0, 0].double(), left, rtol=4e-7, atol=0)


def test_what_is_left_of_almost_nothing_is_shared_without_rounding_to_zero():
    # 1 - sigmoid(20) is 2e-9, less than float32 tells from 0 beside 1
    weight = NORMALIZER(torch.tensor([[0.0, 20.0]]), None)[0, 0].double()
    expected = 0.5 * torch.tensor(-20.0, dtype=torch.float64).sigmoid()
    torch.testing.assert_close(weight, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_the_weights_keep_the_dtype_and_err_by_a_few_units_of_it(dtype):
    drawn = scores(dtype=dtype)
    weights = NORMALIZER(drawn, keep())
    assert weights.dtype == dtype
    torch.testing.assert_close(
        weights.double(), NORMALIZER(drawn.double(), keep()), rtol=0, atol=4 * torch.finfo(dtype).eps
    )


def test_large_scores_give_finite_weights():
    drawn = scores(spread=1e4, dtype=torch.float32, grad=True)
    weights = NORMALIZER(drawn, keep())
    weights.square().sum().backward()
    assert weights.isfinite().all()
    assert drawn.grad.isfinite().all()


def test_the_weights_have_two_right_derivatives():
    drawn, kept = scores(spread=0.8)[:1, :, :4, :5].clone().requires_grad_(), keep()[:1, :, :4, :5]
    assert gradcheck(lambda s: NORMALIZER(s, kept), (drawn,))
    assert gradgradcheck(lambda s: NORMALIZER(s, kept), (drawn,))


@pytest.mark.parametrize("shape", [(2, 3, 0, 7), (2, 3, 5, 0), (0, 3, 5, 7), (2, 3, 1, 1)], ids=str)
def test_any_size_will_do(shape):
    assert NORMALIZER(torch.zeros(shape), None).shape == shape
    assert NORMALIZER(torch.zeros(shape), torch.ones(shape[-2:], dtype=torch.bool)).shape == shape


def test_it_may_be_mapped_over_another_axis():
    mapped = torch.func.vmap(NORMALIZER)(scores(), keep())
    torch.testing.assert_close(mapped, NORMALIZER(scores(), keep()))


def test_it_is_no_softmax_and_promises_no_sum():
    assert softmax_sink(NORMALIZER) == (False, None)
    assert not NORMALIZER.rows_sum_to_one


MASKS = {
    "before": BEFORE,
    "a window": masks.causal & masks.window(20),
    "documents that return": masks.causal
    & masks.documents(torch.tensor([0, 1, 0, 2, 1]).repeat_interleave(42)),
    "lengths": masks.causal & masks.lengths([210, 77]),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_the_backend_that_skips_tiles_keeps_the_order_of_the_keys(mask):
    found = {}
    for backend in ("eager", "tiled"):
        tensors = inputs(q_len=150, kv_len=210, dtype=torch.float64, grad=True)
        context = Rule(mask=mask, normalizer=NORMALIZER)(*tensors, backend=backend)
        context.square().sum().backward()
        found[backend] = [context.detach(), *(tensor.grad for tensor in tensors)]
    torch.testing.assert_close(found["tiled"], found["eager"], rtol=0, atol=1e-9)


@pytest.mark.compiled
def test_it_is_traced_whole_and_for_every_length():
    torch._dynamo.reset()
    graphs = []

    def counted(graph, _):
        graphs.append(graph)
        return graph

    def attend(query, key, value):
        return Rule(mask=masks.causal, normalizer=NORMALIZER)(query, key, value, backend="eager")

    compiled = torch.compile(attend, fullgraph=True, dynamic=True, backend=counted)
    for q_len, kv_len in ((5, 7), (6, 9), (3, 8)):
        tensors = inputs(q_len=q_len, kv_len=kv_len)
        torch.testing.assert_close(compiled(*tensors), attend(*tensors))
    assert len(graphs) == 1
