"""What every normalizer obeys, and what only those do whose rows sum to one."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from attnkit import Rule, masks
from attnkit.normalizers import (
    Entmax15,
    Normalizer,
    Sigmoid,
    Softmax,
    SoftmaxOne,
    Sparsemax,
    TopK,
    softmax_sink,
)
from tests.helpers import inputs

SINK = torch.tensor([0.5, -1.0, 2.0])  # three heads
ALL = {
    "softmax": Softmax(),
    "sink": Softmax(sink=SINK),
    "one": SoftmaxOne(),
    "sigmoid": Sigmoid(),
    "sigmoid with a bias": Sigmoid(bias=-1.5),
    "sparsemax": Sparsemax(),
    "entmax": Entmax15(),
    "top 3": TopK(3),
}
EVERY = pytest.mark.parametrize("normalizer", ALL.values(), ids=ALL)
SHIFTABLE = pytest.mark.parametrize("normalizer", [Softmax(), Sparsemax(), Entmax15(), TopK(3)], ids=repr)


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


@EVERY
def test_hidden_keys_weigh_exactly_nothing(normalizer):
    weights = normalizer(scores(), keep())
    assert torch.equal(weights.masked_select(~keep()), torch.zeros((~keep()).sum() * 3, dtype=torch.float64))


@EVERY
def test_weights_are_never_negative_and_never_above_one(normalizer):
    weights = normalizer(scores(), keep())
    assert weights.min() >= 0
    assert weights.max() <= 1 + 1e-12


@EVERY
def test_a_dead_row_is_zero_and_passes_no_gradient_on(normalizer):
    drawn = scores(grad=True)
    weights = normalizer(drawn, keep())
    (weights * torch.randn_like(weights)).sum().backward()
    nothing = torch.zeros(2, 3, 7, dtype=torch.float64)
    assert torch.equal(weights[:, :, 1], nothing)
    assert torch.equal(drawn.grad[:, :, 1], nothing)
    assert drawn.grad.isfinite().all()


@EVERY
@pytest.mark.parametrize("junk", [1e30, -1e30, torch.inf, -torch.inf, torch.nan])
def test_what_a_hidden_key_scores_does_not_matter(normalizer, junk):
    drawn = scores(grad=True)
    spoiled = drawn.masked_fill(~keep(), junk)
    weights = normalizer(spoiled, keep())
    weights.square().sum().backward()
    assert torch.equal(weights, normalizer(scores(), keep()))
    assert drawn.grad.isfinite().all()


@EVERY
def test_nan_among_the_scores_that_are_read_is_not_swept_away(normalizer):
    drawn = scores()
    drawn[0, 0, 3, 2] = torch.nan
    weights = normalizer(drawn, keep())
    assert weights[0, 0, 3].isnan().any()
    assert weights.isnan().sum() <= 7


@EVERY
def test_hiding_keys_is_leaving_them_out(normalizer):
    kept = torch.tensor([True, False, True, True, False, True, True])
    torch.testing.assert_close(
        normalizer(scores(), kept.expand(5, 7))[..., kept], normalizer(scores()[..., kept], None)
    )


@EVERY
def test_the_order_of_the_keys_does_not_matter(normalizer):
    order = torch.tensor([3, 6, 0, 5, 1, 4, 2])
    torch.testing.assert_close(
        normalizer(scores()[..., order], keep()[..., order]), normalizer(scores(), keep())[..., order]
    )


@EVERY
def test_a_higher_score_never_weighs_less(normalizer):
    drawn = scores()
    best_last = normalizer(drawn, None).gather(-1, drawn.argsort(-1))
    assert (best_last.diff(dim=-1) >= 0).all()


@EVERY
def test_it_says_truly_whether_rows_sum_to_one(normalizer):
    live = keep().any(-1).expand(2, 3, 5)
    sums = normalizer(scores(), keep()).sum(-1)[live]
    assert normalizer.rows_sum_to_one == torch.allclose(sums, torch.ones_like(sums), rtol=0, atol=1e-12)


@SHIFTABLE
def test_the_same_added_to_all_scores_changes_nothing(normalizer):
    torch.testing.assert_close(normalizer(scores() + 5.0, keep()), normalizer(scores(), keep()))


@EVERY
def test_the_weights_have_two_right_derivatives(normalizer):
    # fewer numbers, all kinds of rows; far from ties, where sparse weights have a corner
    drawn = scores(spread=0.8)[:1, :, :4, :5].detach().clone().requires_grad_()
    kept = keep()[:1, :, :4, :5]
    assert gradcheck(lambda s: normalizer(s, kept), (drawn,))
    assert gradgradcheck(lambda s: normalizer(s, kept), (drawn,))


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_the_weights_keep_the_dtype_and_err_by_a_few_units_of_it(normalizer, dtype):
    drawn = scores(dtype=dtype)
    weights = normalizer(drawn, keep())
    assert weights.dtype == dtype
    # the same rounded scores in float64; halves round score + bias, sum and quotient, one unit each
    torch.testing.assert_close(
        weights.double(), normalizer(drawn.double(), keep()), rtol=0, atol=4 * torch.finfo(dtype).eps
    )


@EVERY
def test_large_scores_give_finite_weights(normalizer):
    drawn = scores(spread=1e4, dtype=torch.float32, grad=True)
    weights = normalizer(drawn, keep())
    weights.square().sum().backward()
    assert weights.isfinite().all()
    assert drawn.grad.isfinite().all()


@EVERY
@pytest.mark.parametrize("shape", [(2, 3, 0, 7), (2, 3, 5, 0), (0, 3, 5, 7), (2, 3, 1, 1)], ids=str)
def test_any_size_will_do(normalizer, shape):
    assert normalizer(torch.zeros(shape), None).shape == shape
    assert normalizer(torch.zeros(shape), torch.ones(shape[-2:], dtype=torch.bool)).shape == shape


@EVERY
def test_it_may_be_mapped_over_another_axis(normalizer):
    # the batch is mapped away, for the scores and for the mask
    mapped = torch.func.vmap(normalizer)(scores(), keep())
    torch.testing.assert_close(mapped, normalizer(scores(), keep()))


@EVERY
@pytest.mark.compiled
def test_it_is_traced_whole_and_for_every_length(normalizer):
    torch._dynamo.reset()
    graphs = []

    def counted(graph, _):
        graphs.append(graph)
        return graph

    def attend(query, key, value):
        return Rule(mask=masks.causal, normalizer=normalizer)(query, key, value, backend="eager")

    compiled = torch.compile(attend, fullgraph=True, dynamic=True, backend=counted)
    for q_len, kv_len in ((5, 7), (6, 9), (3, 8)):
        tensors = inputs(q_len=q_len, kv_len=kv_len)
        torch.testing.assert_close(compiled(*tensors), attend(*tensors))
    assert len(graphs) == 1


@EVERY
def test_a_rule_without_a_backend_named_gives_what_eager_gives(normalizer):
    # in particular no faster path may lose the sink
    tensors, rule = inputs(dtype=torch.float64), Rule(mask=masks.causal, normalizer=normalizer)
    torch.testing.assert_close(rule(*tensors), rule(*tensors, backend="eager"))


@EVERY
def test_normalizers_are_compared_and_hashed_without_an_error(normalizer):
    others = [*ALL.values(), Softmax(sink=SINK.clone()), None, 1]
    assert [other for other in others if normalizer == other] == [normalizer]
    assert len({normalizer, normalizer}) == 1


@EVERY
def test_only_softmaxes_of_our_own_are_told_as_such(normalizer):
    found, sink = softmax_sink(normalizer)
    assert found == isinstance(normalizer, Softmax | SoftmaxOne)
    assert sink is None or found


def test_what_somebody_else_makes_of_softmax_is_not_taken_for_it():
    class Colder(Softmax):
        def __call__(self, scores, keep):
            return super().__call__(2 * scores, keep)

    assert softmax_sink(Colder()) == (False, None)
    assert Colder() != Softmax()


def test_a_normalizer_of_ones_own_promises_nothing():
    class Ones(Normalizer):
        def __call__(self, scores, keep):
            return torch.ones_like(scores)

    assert not Ones().rows_sum_to_one
    assert Ones().parameters() == ()
