"""What the tiled backend refuses, in words."""

import pytest
import torch
from torch.autograd import forward_ad

from attnkit import Rule, masks
from attnkit.backends import tiled
from attnkit.errors import BackendError, ShapeError
from attnkit.normalizers import Sigmoid
from tests.helpers import inputs

RULES = {
    "fused": Rule(mask=masks.causal),
    "general": Rule(normalizer=Sigmoid()),
    "dropped": Rule(dropout=0.3),
}


def asked(tensors, rule=RULES["fused"]):
    return rule._request(*tensors, None, training=True)


def test_plain_inputs_are_not_refused():
    assert [tiled.refusal(asked(inputs(), rule)) for rule in RULES.values()] == [None] * 3


def test_an_empty_call_is_not_refused():
    assert tiled.refusal(asked(inputs(q_len=0, kv_len=0))) is None


@pytest.mark.compiled
def test_what_torch_compile_traces_is_refused():
    said = []

    def call(*tensors):
        said.append(tiled.refusal(asked(tensors)))
        return tensors[0]

    torch.compile(call, backend="eager", fullgraph=False)(*inputs())
    assert "torch.compile and torch.export cannot trace" in said[0]


# torch itself calls what it deprecates
SCRIPTED = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@SCRIPTED
@pytest.mark.parametrize("transform", ["vmap", "grad", "jvp"])
def test_what_torch_func_transforms_is_refused(transform):
    said = []

    def call(query, key, value):
        said.append(tiled.refusal(asked((query, key, value))))
        return query.sum()

    tensors = inputs()
    if transform == "jvp":
        torch.func.jvp(call, tensors, tensors)
    else:
        getattr(torch.func, transform)(call)(*tensors)
    assert "torch.func would have to transform" in said[0]


@SCRIPTED
def test_forward_mode_is_refused():
    query, key, value = inputs()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(query, torch.ones_like(query))
        assert "for the backward mode alone" in tiled.refusal(asked((dual, key, value)))
        assert tiled.refusal(asked((query, key, value))) is None


class Marked(torch.Tensor):
    """A tensor that is more than one."""


def test_tensors_that_are_more_than_tensors_are_refused():
    query, key, value = inputs()
    assert "Marked is more than one" in tiled.refusal(asked((query, key.as_subclass(Marked), value)))
    parameter = torch.nn.Parameter(query)
    assert tiled.refusal(asked((parameter, key, value))) is None


def test_a_device_without_memory_is_refused():
    assert "meta device" in tiled.refusal(asked([tensor.to("meta") for tensor in inputs()]))


def test_queries_that_were_picked_out_are_refused():
    request = asked(inputs()).rows(torch.tensor([4, 0]))
    assert "none picked out" in tiled.refusal(request)


@pytest.mark.messages
@pytest.mark.parametrize("path", RULES)
def test_a_second_derivative_is_refused_and_the_eager_rule_named(path):
    tensors = inputs(grad=True)
    context = tiled.run(asked(tensors, RULES[path]))
    (first,) = torch.autograd.grad(context.square().sum(), tensors[0], create_graph=True)
    with pytest.raises(BackendError, match=r"a second derivative(?s:.*)backend=\"eager\""):
        first.sum().backward()


@pytest.mark.parametrize("path", RULES)
def test_a_first_derivative_that_is_recorded_is_the_first_derivative(path):
    tensors = inputs(grad=True)
    torch.manual_seed(1)
    context = tiled.run(asked(tensors, RULES[path]))
    loss = context.square().sum()
    plain = torch.autograd.grad(loss, tensors, retain_graph=True)
    recorded = torch.autograd.grad(loss, tensors, create_graph=True)
    assert all(torch.equal(one, other) for one, other in zip(plain, recorded, strict=True))


@pytest.mark.messages
@pytest.mark.parametrize("path", RULES)
@pytest.mark.parametrize("q_len", [5, 0])
def test_a_mask_for_another_batch_is_refused(path, q_len):
    rule = Rule(mask=masks.lengths([1, 2, 3]), normalizer=RULES[path].normalizer, dropout=RULES[path].dropout)
    with pytest.raises(ShapeError, match=r"for a batch of \(3,\)(?s:.*)one entry a sample"):
        tiled.run(asked(inputs(q_len=q_len), rule))
