"""What may be given to a rule, and in which words the rest is refused."""

import pytest
import torch

from attnkit import Rule, masks
from attnkit.errors import DtypeError, ShapeError
from tests.helpers import inputs


def test_one_memory_serves_a_batch_when_it_is_expanded():
    query, key, value = inputs()
    context = Rule()(query, key[:1].expand(2, 3, 7, 4), value[:1].expand(2, 3, 7, 8))
    torch.testing.assert_close(context[1:], Rule()(query[1:], key[:1], value[:1]))


def shaped(**changes):
    shapes = {"query": (2, 3, 5, 4), "key": (2, 3, 7, 4), "value": (2, 3, 7, 8)} | changes
    return [torch.ones(shape) for shape in shapes.values()]


@pytest.mark.messages
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            shaped(key=(2, 3, 7, 3)),
            r"query \(2, 3, 5, 4\) and key \(2, 3, 7, 3\) end in different head_dim(?s:.*)head_dim=4",
        ),
        (
            shaped(value=(2, 3, 6, 8)),
            r"key \(2, 3, 7, 4\) and value \(2, 3, 6, 8\) differ before the last axis",
        ),
        (shaped(value=(2, 1, 7, 8)), r"key \(2, 3, 7, 4\) and value \(2, 1, 7, 8\) differ before"),
        (
            shaped(key=(1, 3, 7, 4), value=(1, 3, 7, 8)),
            r"different batch axes(?s:.*)key\.expand\(2, 3, 7, 4\) and value\.expand\(2, 3, 7, 8\)",
        ),
        (
            shaped(query=(3, 5, 4)),
            r"different batch axes(?s:.*)query\.expand\(2, 3, 5, 4\)",
        ),
        (shaped(key=(2, 2, 7, 4), value=(2, 2, 7, 8)), r"have 3 and 2 heads, which cannot be shared evenly"),
        (
            shaped(query=(5, 4), key=(7, 4), value=(7, 8)),
            r"query \(5, 4\) has no axis of heads(?s:.*)query\[None\]",
        ),
        (shaped(query=(4,)), r"query \(4,\) has no axis of heads(?s:.*)query\[None, None\]"),
        (
            shaped(query=(2, 3, 5, 0), key=(2, 3, 7, 0)),
            r"end in a head_dim of 0(?s:.*)head_dim=1 or more",
        ),
        (shaped(key=(2, 0, 7, 4), value=(2, 0, 7, 8)), r"have 3 and 0 heads"),
    ],
)
def test_axes_that_do_not_fit_are_named(tensors, message):
    with pytest.raises(ShapeError, match=message):
        Rule()(*tensors)


@pytest.mark.messages
def test_a_mask_for_another_batch_is_refused():
    with pytest.raises(
        ShapeError, match=r"lengths\(\[1, 2, 3\]\) is for a batch of \(3,\)(?s:.*)has the batch \(2,\)"
    ):
        Rule(mask=masks.lengths([1, 2, 3]))(*inputs())


@pytest.mark.messages
def test_a_batch_of_one_mask_is_not_spread_over_the_batch():
    with pytest.raises(ShapeError, match=r"is for a batch of \(1,\)"):
        Rule(mask=masks.lengths([3]))(*inputs(), backend="eager")


@pytest.mark.messages
def test_whole_numbers_are_refused():
    query, key, value = inputs()
    with pytest.raises(DtypeError, match=r"key must be a tensor of floats; got torch\.int64(?s:.*)float\(\)"):
        Rule()(query, key.long(), value)


@pytest.mark.messages
def test_two_dtypes_are_refused():
    query, key, value = inputs()
    with pytest.raises(
        DtypeError, match=r"one dtype and one device(?s:.*)torch\.float64 on cpu(?s:.*)key\.to\(query\)"
    ):
        Rule()(query, key.double(), value)


@pytest.mark.messages
def test_nothing_in_place_of_a_tensor_is_refused():
    query, _, value = inputs()
    with pytest.raises(DtypeError, match=r"key must be a tensor of floats; got NoneType"):
        Rule()(query, None, value)


@pytest.mark.messages
def test_nothing_in_place_of_a_tensor_is_refused_by_inspect_too():
    with pytest.raises(DtypeError, match=r"query must be a tensor of floats; got NoneType"):
        Rule().inspect(None, torch.ones(3, 5, 4))


@pytest.mark.messages
def test_a_nested_tensor_is_sent_to_padding():
    ragged = torch.nested.nested_tensor([torch.ones(3, 2, 4), torch.ones(3, 5, 4)], layout=torch.jagged)
    with pytest.raises(DtypeError, match=r"query is a nested tensor(?s:.*)to_padded_tensor\(query, 0\.0\)"):
        Rule()(ragged, ragged, ragged)


@pytest.mark.messages
def test_explain_refuses_what_a_call_refuses():
    with pytest.raises(ShapeError, match=r"is for a batch of \(3,\)"):
        Rule(mask=masks.lengths([1, 2, 3])).explain(*inputs())


@pytest.mark.messages
def test_two_devices_are_refused():
    query, key, value = inputs()
    with pytest.raises(
        DtypeError, match=r"one device for all; got query torch\.float32 on cpu, key \S+ on meta"
    ):
        Rule()(query, key.to("meta"), value)
