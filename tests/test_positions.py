import math

import pytest
import torch

from attnkit.errors import DtypeError, OptionError, ShapeError, UnknownNameError
from attnkit.positions import NTK, Linear, Llama3, Positions, Rotary, Yarn

LAYOUTS = pytest.mark.parametrize("layout", ["halves", "pairs"])
KINDS = {
    "halves": Rotary(),
    "pairs": Rotary(layout="pairs"),
    "partial halves": Rotary(rotary_dim=4),
    "partial pairs": Rotary(rotary_dim=4, layout="pairs"),
    "linear": Rotary(scaling=Linear(4.0)),
    "ntk": Rotary(scaling=NTK(4.0)),
    "yarn": Rotary(scaling=Yarn(4.0, original_tokens=64)),
    "llama 3": Rotary(scaling=Llama3(original_tokens=64)),
}
EVERY = pytest.mark.parametrize("rotary", KINDS.values(), ids=KINDS)


def vectors(*, length=5, head_dim=6, dtype=torch.float64, seed=0, grad=False):
    """(2, 3, length, head_dim), three times a normal draw."""
    drawn = 3 * torch.randn(
        2, 3, length, head_dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return drawn.to(dtype).requires_grad_(grad)


def test_rotary_is_one_kind_of_positions():
    assert isinstance(Rotary(), Positions)


@LAYOUTS
def test_a_pair_turns_by_its_position_in_radians(layout):
    # one pair has the frequency base ** 0 = 1: (1, 0) becomes (cos p, sin p), and (0, 1) becomes (-sin p, cos p)
    x = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    turned = Rotary(layout=layout).rotate(x, torch.tensor([2, 3]))
    expected = [[[math.cos(2), math.sin(2)], [-math.sin(3), math.cos(3)]]]
    torch.testing.assert_close(turned, torch.tensor(expected, dtype=torch.float64))


def test_pairs_are_complex_numbers_that_are_multiplied():
    # independent: a + bi, times exp(i p frequency)
    x, positions = vectors(), torch.tensor([0, 1, 7, 30, 1000])
    frequencies = torch.tensor([1.0, 100 ** (-1 / 3), 100 ** (-2 / 3)], dtype=torch.float64)
    angles = positions[:, None] * frequencies
    turn = torch.polar(torch.ones_like(angles), angles)
    expected = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (3, 2))) * turn).flatten(-2)
    torch.testing.assert_close(Rotary(base=100.0, layout="pairs").rotate(x, positions), expected)


def test_halves_are_pairs_in_another_order():
    # the order that turns rows of a "pairs" checkpoint's query and key projections into those of a "halves" one
    order = torch.tensor([0, 2, 4, 1, 3, 5])
    x, positions = vectors(), torch.arange(3, 8)
    torch.testing.assert_close(
        Rotary(layout="halves").rotate(x[..., order], positions),
        Rotary(layout="pairs").rotate(x, positions)[..., order],
    )


def test_one_line_turns_the_projections_of_one_layout_into_those_of_the_other():
    # the line that docs/decisions/rotary-layouts.md gives, for 3 heads of 6 numbers
    x, weight = torch.randn(5, 7, dtype=torch.float64), torch.randn(18, 7, dtype=torch.float64)
    halves = weight.unflatten(0, (3, 6 // 2, 2)).transpose(1, 2).flatten(0, 2)

    def scores(weight, layout):
        heads = (x @ weight.T).unflatten(-1, (3, 6)).transpose(0, 1)
        turned = Rotary(layout=layout).rotate(heads, torch.arange(5))
        return turned @ turned.mT

    torch.testing.assert_close(scores(halves, "halves"), scores(weight, "pairs"))


def test_the_two_layouts_are_not_the_same():
    x, positions = vectors(), torch.arange(5)
    assert not torch.allclose(Rotary().rotate(x, positions), Rotary(layout="pairs").rotate(x, positions))


@EVERY
def test_scores_depend_on_the_distance_alone(rotary):
    query, key = vectors(), vectors(length=7, seed=1)

    def scores(start):
        turned = rotary.rotate(query, torch.arange(start + 2, start + 7))
        return turned @ rotary.rotate(key, torch.arange(start, start + 7)).mT

    torch.testing.assert_close(scores(0), scores(123_456), rtol=0, atol=1e-8)


@EVERY
def test_the_length_of_a_vector_changes_by_the_magnitude_alone(rotary):
    x = vectors(head_dim=4)
    magnitude = 1.0 if rotary.scaling is None else rotary.scaling.magnitude
    turned = rotary.rotate(x, torch.arange(100, 105))
    torch.testing.assert_close(turned.norm(dim=-1), magnitude * x.norm(dim=-1))


@EVERY
def test_position_zero_leaves_a_vector_as_it_is_but_for_the_magnitude(rotary):
    x = vectors(length=1)
    magnitude = 1.0 if rotary.scaling is None else rotary.scaling.magnitude
    torch.testing.assert_close(rotary.rotate(x, torch.tensor([0])), magnitude * x)


@LAYOUTS
def test_a_part_turns_as_if_it_were_alone_and_the_rest_stays(layout):
    x, positions = vectors(), torch.arange(5)
    turned = Rotary(layout=layout, rotary_dim=4).rotate(x, positions)
    torch.testing.assert_close(turned[..., :4], Rotary(layout=layout).rotate(x[..., :4], positions))
    assert torch.equal(turned[..., 4:], x[..., 4:])


@EVERY
def test_samples_may_stand_at_different_positions(rotary):
    x, positions = vectors(), torch.tensor([[0, 1, 2, 3, 4], [7, 8, 9, 9, 2]])
    turned = rotary.rotate(x, positions)
    for sample in range(2):
        torch.testing.assert_close(turned[sample], rotary.rotate(x[sample], positions[sample]))


@EVERY
def test_a_position_before_the_first_turns_the_other_way(rotary):
    x = vectors(length=1)
    magnitude = 1.0 if rotary.scaling is None else rotary.scaling.magnitude
    there = rotary.rotate(x, torch.tensor([5]))
    torch.testing.assert_close(rotary.rotate(there, torch.tensor([-5])), magnitude**2 * x)


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_far_positions_are_exact_to_a_unit_in_half_precision(rotary, dtype, autocast):
    # tables in half precision would be off by whole turns: bfloat16 cannot tell 4,000 from 4,007
    x, positions = vectors(dtype=dtype), torch.tensor([3, 257, 2049, 4007, 8191])
    if rotary.scaling is not None and rotary.scaling.magnitude != 1.0:
        x = x / 2
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        turned = rotary.rotate(x, positions)
    assert turned.dtype == dtype
    # float32 angles near 8,191 are off by up to 2 ** -11, which moves a vector by that share of its length
    slack = torch.finfo(dtype).eps / 2 * turned.abs().max().item() + 2**-10 * x.norm(dim=-1).max().item()
    torch.testing.assert_close(turned.double(), rotary.rotate(x.double(), positions), rtol=0, atol=slack)


def test_tables_are_float32_unless_the_vectors_are_float64():
    x, positions = vectors(), torch.tensor([5, 50, 500, 5000, 50_000])
    exact = Rotary().rotate(x, positions)
    rounded = Rotary().rotate(x.float(), positions)
    assert (exact - rounded.double()).abs().max() > 1e-6
    angles = (
        positions[:, None].double() * torch.tensor([1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)]).double()
    )
    cos, _ = Rotary().tables(positions, rotary_dim=6, dtype=torch.float64)
    # the frequencies written out above are float32: their error, up to 2 ** -25 each, times 50,000
    torch.testing.assert_close(cos, angles.cos(), rtol=0, atol=50_000 * 2**-25)


@EVERY
def test_it_has_two_right_derivatives(rotary):
    x = vectors()[:1, :1, :2].detach().clone().requires_grad_()
    positions = torch.tensor([3, 40])
    assert torch.autograd.gradcheck(lambda x: rotary.rotate(x, positions), (x,))
    assert torch.autograd.gradgradcheck(lambda x: rotary.rotate(x, positions).sin(), (x,))


@EVERY
@pytest.mark.parametrize("shape", [(2, 3, 0, 6), (0, 3, 5, 6), (3, 1, 6), (2, 4, 3, 5, 6)], ids=str)
def test_any_size_will_do(rotary, shape):
    assert rotary.rotate(torch.ones(shape), torch.arange(shape[-2])).shape == shape


@EVERY
def test_what_is_not_contiguous_turns_alike(rotary):
    x, positions = vectors(), torch.arange(5)
    strided = x.mT.contiguous().mT
    expanded = x[:1].expand(2, 3, 5, 6)
    torch.testing.assert_close(rotary.rotate(strided, positions), rotary.rotate(x, positions))
    torch.testing.assert_close(rotary.rotate(expanded, positions)[1], rotary.rotate(x, positions)[0])


@EVERY
def test_it_may_be_mapped_over_another_axis(rotary):
    x, positions = vectors(), torch.arange(5)
    mapped = torch.func.vmap(lambda one: rotary.rotate(one, positions))(x)
    torch.testing.assert_close(mapped, rotary.rotate(x, positions))


@EVERY
@pytest.mark.compiled
def test_it_is_traced_whole_and_for_every_length(rotary):
    torch._dynamo.reset()
    graphs = []

    def counted(graph, _):
        graphs.append(graph)
        return graph

    compiled = torch.compile(rotary.rotate, fullgraph=True, dynamic=True, backend=counted)
    for length in (5, 8, 3):
        x, positions = vectors(length=length), torch.arange(length)
        torch.testing.assert_close(compiled(x, positions), rotary.rotate(x, positions))
    assert len(graphs) == 1


def test_values_of_equal_parts_are_equal():
    assert Rotary(scaling=Linear(2.0)) == Rotary(scaling=Linear(2.0))
    assert Rotary() != Rotary(layout="pairs")
    assert len({Rotary(), Rotary()}) == 1


@pytest.mark.messages
@pytest.mark.parametrize(
    ("layout", "fix"),
    [
        ("half", "did you mean 'halves'"),
        ("interleaved", "one of halves, pairs"),
        (None, "one of halves, pairs"),
    ],
)
def test_an_unknown_layout_is_corrected(layout, fix):
    with pytest.raises(UnknownNameError, match=rf"Rotary: there is no layout (?s:.*)fix: {fix}"):
        Rotary(layout=layout)


@pytest.mark.messages
@pytest.mark.parametrize("rotary_dim", [0, -2, 3, 4.0, True, "4"])
def test_a_part_that_is_no_number_of_pairs_is_refused(rotary_dim):
    with pytest.raises(
        OptionError, match=r"turn in pairs: 2, 4, 6, \.\.\.; got (?s:.*)rotary_dim=head_dim // 2"
    ):
        Rotary(rotary_dim=rotary_dim)


@pytest.mark.messages
@pytest.mark.parametrize("base", [1.0, 0, -10.0, math.nan, math.inf, True, "10000", None])
def test_a_base_that_slows_nothing_is_refused(base):
    with pytest.raises(OptionError, match=r"Rotary: base is a finite number above 1; got (?s:.*)rope_theta"):
        Rotary(base=base)


@pytest.mark.messages
@pytest.mark.parametrize("scaling", [4.0, "linear", Linear, {"type": "yarn"}], ids=str)
def test_a_scaling_that_is_none_is_refused(scaling):
    with pytest.raises(
        OptionError, match=r"scaling is Linear, NTK, Yarn or Llama3(?s:.*)scaling=Linear\(4\.0\)"
    ):
        Rotary(scaling=scaling)


@pytest.mark.messages
def test_an_odd_head_dim_is_refused():
    with pytest.raises(ShapeError, match=r"head_dim=5, of which all turn, in pairs\n  fix: an even head_dim"):
        Rotary().rotate(torch.ones(3, 2, 5), torch.arange(2))


@pytest.mark.messages
def test_a_part_larger_than_the_whole_is_refused():
    with pytest.raises(
        ShapeError, match=r"head_dim=6, of which rotary_dim=8 turn\n  fix: rotary_dim is at most"
    ):
        Rotary(rotary_dim=8).rotate(torch.ones(3, 2, 6), torch.arange(2))


@pytest.mark.messages
@pytest.mark.parametrize("shape", [(7,), (1,), (), (3, 5), (1, 5), (2, 3, 5)], ids=str)
def test_positions_for_other_vectors_are_refused(shape):
    message = (
        r"positions (?s:.*) for x \(2, 3, 5, 6\)(?s:.*)one position for each vector: \(5,\), or \(2, 5\)"
    )
    with pytest.raises(ShapeError, match=message):
        Rotary().rotate(vectors(), torch.zeros(shape, dtype=torch.long))


@pytest.mark.messages
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.uint8], ids=str)
def test_positions_that_are_no_whole_numbers_are_refused(dtype):
    with pytest.raises(
        DtypeError, match=r"whole numbers of 32 or 64 bits(?s:.*)got torch(?s:.*)scaling=Linear"
    ):
        Rotary().rotate(vectors(), torch.zeros(5, dtype=dtype))


@pytest.mark.messages
def test_vectors_without_heads_are_refused():
    with pytest.raises(ShapeError, match=r"x \(5, 6\) has no axis of heads(?s:.*)one head is x\[None\]"):
        Rotary().rotate(torch.ones(5, 6), torch.arange(5))


@pytest.mark.messages
@pytest.mark.parametrize("x", [torch.ones(2, 3, 5, 6).long(), [[[1.0]]]], ids=["whole numbers", "a list"])
def test_vectors_without_floats_are_refused(x):
    # turned and brought back to whole numbers, they would lose everything
    with pytest.raises(DtypeError, match=r"Rotary: x must be a tensor of floats(?s:.*)turn query and key"):
        Rotary().rotate(x, torch.arange(5))
