"""Any rule on the tiled backend: steps, normalizers and what they bring along, against the eager rule in float64."""

import pytest
import torch
from torch import nn

from attnkit import Rule, masks
from attnkit.backends import eager, tiled
from attnkit.errors import BackendError
from attnkit.normalizers import Entmax15, Sigmoid, Softmax, Sparsemax, TopK
from attnkit.scores import Additive, RelativeBias, SoftCap
from tests.helpers import inputs

MASKS = {
    "full": masks.full,
    "window or first": masks.causal & (masks.window(40) | masks.first(4)),
    "lengths": masks.causal & masks.lengths([150, 60]),
    "lengths with an empty sample": masks.lengths([0, 60]),
    "where": masks.where(lambda q, k: (q + k) % 3 == 1),
}
RULES = {
    "soft cap": {"scores": (SoftCap(5.0),)},
    "own step": {"scores": (lambda score, head, q, k: score - 0.1 * head * (q - k).abs(),)},
    "sigmoid": {"normalizer": Sigmoid()},
    "sparsemax": {"normalizer": Sparsemax()},
    "entmax": {"normalizer": Entmax15()},
    "top k": {"normalizer": TopK(3)},
}


def draw(**options):
    return inputs(q_len=130, kv_len=150, heads=6, kv_heads=3, dtype=torch.float64, **options)


def asked(rule, tensors, *, training=False, generator=None):
    return rule._request(*tensors, None, training=training, generator=generator)


def assert_equal(rule, tensors, more=()):
    """Contexts and gradients to `tensors` and `more`, eager and tiled."""
    found = []
    for backend in (eager, tiled):
        context = backend.run(asked(rule, tensors))
        probe = torch.randn(context.shape, generator=torch.Generator().manual_seed(1)).to(context)
        found.append((context, *torch.autograd.grad(context, (*tensors, *more), probe, retain_graph=True)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("rule", RULES)
def test_any_rule_is_the_eager_rule_in_blocks(rule, mask):
    assert_equal(Rule(mask=MASKS[mask], **RULES[rule]), draw(grad=True))


def test_keys_that_lie_apart_get_their_own_gradients():
    tensors = inputs(q_len=20, kv_len=600, dtype=torch.float64, grad=True)
    assert_equal(Rule(mask=MASKS["window or first"], scores=(SoftCap(5.0),)), tensors)


def test_a_gradient_reaches_a_tensor_in_a_closure():
    slope = torch.full((6, 1, 1), 0.1, dtype=torch.float64, requires_grad=True)
    steps = (lambda score, head, q, k: score - slope * (q - k).abs(),)
    assert_equal(Rule(mask=masks.causal, scores=steps), draw(grad=True), (slope,))


class Learned(nn.Module):
    """A step that is a module, as a reader would write it."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(6, 6, dtype=torch.float64)

    def forward(self, score, head, q_pos, kv_pos):
        return self.mix(score.movedim(-3, -1)).movedim(-1, -3)


def test_a_gradient_reaches_the_parameters_of_a_module():
    module = Learned()
    assert_equal(Rule(mask=masks.causal, scores=(module,)), draw(grad=True), tuple(module.parameters()))


def test_a_gradient_reaches_a_tensor_and_one_that_was_made_from_it():
    # both are captured; what flows through the second must not be counted for the first as well
    leaf = torch.linspace(0.1, 0.6, 6, dtype=torch.float64)[:, None, None].requires_grad_()
    square = leaf * leaf
    steps = (lambda score, head, q, k: score * leaf - square * (q - k).abs(),)
    assert_equal(Rule(mask=masks.causal, scores=steps), draw(grad=True), (leaf,))


def test_a_gradient_reaches_the_query_by_way_of_a_step_as_well():
    query, key, value = draw(grad=True)
    steps = (lambda score, head, q, k: score * query.mean(),)
    assert_equal(Rule(mask=masks.causal, scores=steps), (query, key, value))


@pytest.mark.parametrize("mask", ["window or first", "lengths"])
def test_a_gradient_reaches_a_learned_bias_and_a_sink(mask):
    table = torch.randn(8, 6, dtype=torch.float64, requires_grad=True)
    sink = torch.linspace(-3, 9, 6, dtype=torch.float64, requires_grad=True)
    rule = Rule(mask=MASKS[mask], scores=(RelativeBias(table),), normalizer=Softmax(sink))
    assert_equal(rule, draw(grad=True), (table, sink))


class Slope(Additive):
    """An additive step that does not tell of its parameter."""

    relative = True

    def __init__(self, slope):
        self.slope = slope

    def bias(self, head, q_pos, kv_pos):
        return -self.slope * (q_pos - kv_pos).abs()


def test_a_gradient_reaches_what_an_additive_step_does_not_tell_of():
    slope = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    assert_equal(Rule(mask=masks.causal, scores=(Slope(slope),)), draw(grad=True), (slope,))


class Product(torch.autograd.Function):
    """Multiplies in a way that only autograd sees."""

    @staticmethod
    def forward(ctx, score, slope):
        ctx.save_for_backward(score, slope)
        return score * slope.detach()

    @staticmethod
    def backward(ctx, gradient):
        score, slope = ctx.saved_tensors
        return gradient * slope, (gradient * score).sum()


def test_a_gradient_that_would_be_lost_is_refused():
    slope = torch.tensor(0.2, requires_grad=True)

    def hidden(score, head, q, k):
        return Product.apply(score, slope)

    request = asked(Rule(scores=(hidden,)), inputs(grad=True))
    assert "hidden holds a tensor that wants a gradient" in tiled.refusal(request)
    with torch.no_grad():
        assert tiled.refusal(request) is None


@pytest.mark.messages
def test_a_tensor_that_only_some_blocks_read_is_refused_on_the_way():
    slope = torch.tensor(0.2, requires_grad=True)

    def late(score, head, q, k):
        return score * slope if q.min() == 0 and k.shape[-1] > 5 else score

    request = asked(Rule(scores=(late,)), inputs(q_len=200, kv_len=200, grad=True))
    assert tiled.refusal(request) is None
    with pytest.raises(BackendError, match=r"only of some positions(?s:.*)insist on backend=\"eager\""):
        tiled.run(request)


def test_a_step_that_knows_the_size_of_the_call_is_refused():
    whole = torch.zeros(130, 150)

    def sized(score, head, q, k):
        return score + whole

    reason = tiled.refusal(asked(Rule(scores=(sized,)), draw()))
    assert reason.startswith("it asks for a part of the scores at a time, and sized then raises")


def test_a_step_that_looks_at_the_whole_row_is_refused():
    def centred(score, head, q, k):
        return score - score.mean(-1, keepdim=True)

    reason = tiled.refusal(asked(Rule(scores=(centred,)), draw()))
    assert reason.endswith("centred then gives other scores than for all at once")


def test_a_parameter_in_a_step_is_no_trouble_where_no_gradient_is_asked():
    slope = torch.tensor(0.2, requires_grad=True)
    request = asked(Rule(scores=(lambda score, head, q, k: score * slope,)), inputs())
    with torch.no_grad():
        torch.testing.assert_close(tiled.run(request), eager.run(request))


@pytest.mark.parametrize("rule", ["soft cap", "sigmoid"])
def test_dropout_drops_the_same_going_back(rule):
    # value the identity: the context is the weights that were used, and so tells which were kept
    query, key, value = draw(grad=True)
    made = Rule(mask=masks.causal, dropout=0.4, **RULES[rule])

    def run(value):
        seeded = torch.Generator().manual_seed(5)
        return tiled.run(asked(made, (query, key, value), training=True, generator=seeded))

    kept = run(torch.eye(150, dtype=torch.float64).expand(2, 3, -1, -1)).detach() != 0
    weights = eager.weights(asked(made, (query, key, value)))
    expected = weights * kept / 0.6 @ eager.each_head(value, 2)
    probe = torch.randn_like(expected)
    found = run(value)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(each, (query, key, value), probe) for each in (found, expected)]
    torch.testing.assert_close(*gradients)


def test_rows_of_another_block_draw_anew():
    query, key = torch.zeros(1, 1, 130, 4), torch.zeros(1, 1, 150, 4)
    rule = Rule(dropout=0.5, scores=(SoftCap(5.0),))
    used = tiled.run(asked(rule, (query, key, torch.eye(150)[None, None]), training=True))
    assert not torch.equal(used[0, 0, :2] == 0, used[0, 0, 128:] == 0)


def test_everything_may_be_dropped():
    query, key, value = draw(grad=True)
    context = tiled.run(asked(Rule(dropout=1.0), (query, key, value), training=True))
    context.sum().backward()
    assert not context.any()
    assert not value.grad.any()


def test_parameters_are_cast_in_each_block_under_autocast():
    module = Learned().float()
    tensors = inputs(q_len=130, kv_len=150, heads=6, grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tiled.run(asked(Rule(mask=masks.causal, scores=(module,)), tensors)).float().sum().backward()
    assert module.mix.weight.grad.any()


def test_a_block_under_autocast_goes_back_as_it_went():
    tensors = inputs(q_len=70, kv_len=70, grad=True)
    found = []
    for backend in (eager, tiled):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            context = backend.run(asked(Rule(mask=masks.causal, scores=(SoftCap(5.0),)), tensors))
        found.append((context, *torch.autograd.grad(context.float().sum(), tensors)))
    assert found[0][0].dtype == found[1][0].dtype == torch.bfloat16
    # one block: the same operations in the same precision
    torch.testing.assert_close(found[0], found[1])


def test_a_reader_s_step_may_be_asked_of_no_query_at_all():
    query, key, value = inputs(q_len=0, grad=True)
    context = Rule(scores=(lambda score, head, q_pos, kv_pos: score * 0.9,))(query, key, value)
    assert context.shape == (2, 3, 0, 8)
