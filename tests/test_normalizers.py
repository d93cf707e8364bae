import math

import pytest
import torch

from attnkit import Rule, masks
from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.normalizers import Sigmoid, Softmax, SoftmaxOne, softmax_sink
from tests.helpers import inputs

SCORES = torch.tensor([[0.0, math.log(3.0), 9.0]], dtype=torch.float64)


def test_softmax_by_hand():
    # exp gives 1 and 3, and the hidden third key nothing: 1/4 and 3/4
    keep = torch.tensor([[True, True, False]])
    torch.testing.assert_close(
        Softmax()(SCORES, keep), torch.tensor([[0.25, 0.75, 0.0]], dtype=torch.float64)
    )


def test_softmax_without_a_mask_is_torch_softmax():
    assert torch.equal(Softmax()(SCORES, None), SCORES.softmax(-1))


def test_a_row_with_nothing_to_read_is_zero_and_passes_no_gradient():
    scores = SCORES.clone().requires_grad_()
    weights = Softmax()(scores, torch.zeros(1, 3, dtype=torch.bool))
    weights.sum().backward()
    assert torch.equal(weights, torch.zeros(1, 3, dtype=torch.float64))
    assert torch.equal(scores.grad, torch.zeros(1, 3, dtype=torch.float64))


def test_a_hidden_key_weighs_nothing_however_low_the_others_score():
    # a fill of -1e4 in place of -inf would win here
    weights = Softmax()(torch.tensor([[-2e4, 0.0]]), torch.tensor([[True, False]]))
    assert weights.tolist() == [[1.0, 0.0]]


def test_large_scores_do_not_overflow():
    weights = Softmax()(torch.tensor([[1e4, 1e4 - 1]]), None)
    torch.testing.assert_close(weights, torch.tensor([[1 / (1 + math.exp(-1)), 1 / (1 + math.e)]]))


def test_a_sink_by_hand():
    # exp gives 1 and 3; sinks ln 4 and ln 12 add 4 and 12 below: 1/8, 3/8 and 1/16, 3/16
    sink = torch.tensor([math.log(4.0), math.log(12.0)])
    weights = Softmax(sink=sink)(SCORES[:, :2].expand(2, 1, 2), None)
    torch.testing.assert_close(
        weights, torch.tensor([[[1 / 8, 3 / 8]], [[1 / 16, 3 / 16]]], dtype=torch.float64)
    )


def test_a_sink_is_a_key_that_carries_nothing():
    # written out: a fifth number in query and key, in which only one more key scores, and its value is zero
    query, key, value = inputs(dtype=torch.float64)
    sink = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    longer_query = torch.cat([query, 2 * sink[:, None, None].expand(2, 3, 5, 1)], dim=-1)
    one_more = torch.cat([torch.zeros(2, 3, 1, 4), torch.ones(2, 3, 1, 1)], dim=-1)
    longer_key = torch.cat([torch.nn.functional.pad(key, (0, 1)), one_more.double()], dim=-2)
    expected = Rule(scale=0.5)(longer_query, longer_key, torch.nn.functional.pad(value, (0, 0, 0, 1)))
    torch.testing.assert_close(Rule(normalizer=Softmax(sink=sink))(query, key, value), expected)


def test_gradients_reach_the_sink_twice():
    query, key, value = inputs(batch=(), q_len=3, kv_len=4, heads=2, dtype=torch.float64)
    sink = torch.tensor([0.5, -1.0], dtype=torch.float64, requires_grad=True)

    def attend(sink, query):
        # the first query stands before the first key and reads nothing
        rule = Rule(mask=masks.causal, normalizer=Softmax(sink=sink))
        return rule(query, key, value, q_start=-1, backend="eager")

    tensors = sink, query.requires_grad_()
    assert torch.autograd.gradcheck(attend, tensors)
    assert torch.autograd.gradgradcheck(attend, tensors)


def test_a_sink_far_below_every_score_is_none_at_all():
    scores = torch.randn(3, 5, 7)
    for low in (-1e30, -torch.inf):  # a column more is summed in another order: the last bit may differ
        weights = Softmax(sink=torch.full((3,), low))(scores, None)
        torch.testing.assert_close(
            weights, Softmax()(scores, None), rtol=4 * torch.finfo(torch.float32).eps, atol=0
        )


def test_a_sink_far_above_every_score_takes_everything():
    assert Softmax(sink=torch.full((1,), 1e30))(torch.randn(1, 5, 7), None).count_nonzero() == 0


def test_a_sink_of_minus_infinity_leaves_dead_rows_zero():
    weights = Softmax(sink=torch.tensor([-torch.inf]))(torch.zeros(1, 1, 3), torch.zeros(1, 3).bool())
    assert weights.tolist() == [[[0.0, 0.0, 0.0]]]


def test_softmax_one_is_a_sink_of_zero_for_all():
    scores = torch.randn(3, 5, 7)
    assert torch.equal(SoftmaxOne()(scores, None), Softmax(sink=torch.zeros(3))(scores, None))
    assert softmax_sink(SoftmaxOne()) == (True, 0.0)


def test_softmax_one_is_what_pytorch_computes_with_a_key_of_zeros():
    # add_zero_attn appends one key and value of zeros, whose weight is the last column
    layer = torch.nn.MultiheadAttention(6, 3, add_zero_attn=True, bias=False, batch_first=True)
    x = 3 * torch.randn(2, 5, 6)
    _, expected = layer(x, x, x, average_attn_weights=False)
    query, key, _ = (x @ layer.in_proj_weight.T).unflatten(-1, (3, 3, 2)).transpose(1, 3).unbind(2)
    found = Rule(normalizer=SoftmaxOne()).inspect(query, key).weights()
    torch.testing.assert_close(found, expected[..., :-1])


def test_softmax_one_lets_a_row_of_low_scores_read_nothing():
    assert SoftmaxOne()(torch.full((1, 4), -1000.0), None).count_nonzero() == 0


def test_sinks_are_told_as_parameters():
    sink = torch.zeros(3)
    assert Softmax(sink=sink).parameters()[0] is sink
    assert Softmax().parameters() == SoftmaxOne().parameters() == ()


def test_a_softmax_reads_shortly():
    assert repr(Softmax()) == "Softmax()"
    assert repr(Softmax(sink=torch.zeros(3))) == "Softmax(sink of 3 heads)"


def test_softmaxes_are_equal_when_their_sinks_are_one_and_the_same():
    sink = torch.zeros(3)
    assert Softmax() == Softmax()
    assert Softmax(sink=sink) == Softmax(sink=sink)
    assert Softmax(sink=sink) != Softmax(sink=sink.clone())
    assert Softmax(sink=sink) != Softmax()
    assert Softmax(sink=torch.zeros(1)) != Softmax()


def test_a_sigmoid_by_hand():
    # 1 / (1 + exp(-s)): 1/2 for 0, and 3/4 for ln 3
    torch.testing.assert_close(
        Sigmoid()(SCORES[:, :2], None), torch.tensor([[0.5, 0.75]], dtype=torch.float64)
    )


def test_each_key_is_weighed_on_its_own():
    torch.testing.assert_close(Sigmoid()(SCORES, None)[:, :2], Sigmoid()(SCORES[:, :2], None))


def test_a_bias_of_minus_log_n_brings_rows_of_equal_scores_near_one():
    # 1 / (1 + n) each: n / (1 + n) in all
    weights = Sigmoid(bias=-math.log(9))(torch.zeros(1, 9), None)
    torch.testing.assert_close(weights.sum(), torch.tensor(0.9))


@pytest.mark.messages
@pytest.mark.parametrize("sink", [0.0, [0.0], torch.zeros(3).long(), torch.zeros(3).bool()], ids=str)
def test_a_sink_without_floats_is_refused(sink):
    with pytest.raises(
        DtypeError, match=r"Softmax: sink is a tensor of floats(?s:.*)got (?s:.*)SoftmaxOne\(\)"
    ):
        Softmax(sink=sink)


@pytest.mark.messages
@pytest.mark.parametrize("shape", [(), (3, 1, 1)], ids=str)
def test_a_sink_of_other_axes_is_refused(shape):
    with pytest.raises(ShapeError, match=r"one axis \(heads,\); got (?s:.*)sink\.expand\(num_heads\)"):
        Softmax(sink=torch.zeros(shape))


@pytest.mark.messages
@pytest.mark.parametrize("count", [1, 2, 6])
def test_a_sink_for_other_heads_is_refused(count):
    message = rf"a sink of {count} heads, for scores \(2, 3, 5, 7\) of 3 heads\n  fix: sink holds one number for each"
    with pytest.raises(ShapeError, match=message):
        Rule(normalizer=Softmax(sink=torch.zeros(count)))(*inputs(), backend="eager")


@pytest.mark.messages
def test_a_sink_for_scores_without_heads_is_refused():
    with pytest.raises(ShapeError, match=r"for scores \(5, 7\) of no heads"):
        Softmax(sink=torch.zeros(5))(torch.zeros(5, 7), None)


@pytest.mark.messages
@pytest.mark.parametrize("bias", [math.nan, math.inf, -math.inf, True, "0", torch.zeros(3)], ids=str)
def test_a_sigmoid_bias_that_is_no_number_is_refused(bias):
    with pytest.raises(
        OptionError, match=r"Sigmoid: bias is one finite number(?s:.*)scores\.Bias\(bias\[:, None, None\]"
    ):
        Sigmoid(bias=bias)
