import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import scaled_dot_product_attention

from attnkit import Rule, masks
from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.scores import Additive, Alibi, Bias, RelativeBias, ScoreStep, SoftCap
from tests.helpers import inputs


def places(heads, q_pos, kv_pos):
    return (
        torch.arange(heads)[:, None, None],
        torch.as_tensor(q_pos)[:, None],
        torch.as_tensor(kv_pos)[None, :],
    )


def learned(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


def steps():
    """One of each, for 3 heads and up to 7 positions."""
    return {
        "alibi": Alibi(3),
        "relative": RelativeBias(learned(8, 3), max_distance=6),
        "causal relative": RelativeBias(learned(5, 3), bidirectional=False, max_distance=6),
        "bias": Bias(learned(3, 7, 7)),
        "bias of a batch": Bias(learned(2, 1, 7, 7)),
        "soft cap": SoftCap(1.5),
    }


EVERY = pytest.mark.parametrize("name", steps())
ADDITIVE = pytest.mark.parametrize(
    "name", [name for name, step in steps().items() if isinstance(step, Additive)]
)
RELATIVE = pytest.mark.parametrize("name", ["alibi", "relative", "causal relative"])


@EVERY
def test_it_is_a_score_step(name):
    assert isinstance(steps()[name], ScoreStep)


@ADDITIVE
def test_an_additive_step_adds_its_bias(name):
    step = steps()[name]
    where = places(3, range(2, 7), range(7))
    bias = step.bias(*where)
    score = torch.randn(2, 3, 5, 7)
    assert bias.is_floating_point()
    torch.testing.assert_close(step(score, *where), score + bias.expand(2, 3, 5, 7))


@RELATIVE
def test_a_relative_bias_is_the_same_wherever_the_pair_stands(name):
    step = steps()[name]
    assert step.relative
    near = step.bias(*places(3, range(5), range(7)))
    far = step.bias(*places(3, range(100_000, 100_005), range(100_000, 100_007)))
    assert torch.equal(near, far)


def test_a_tensor_of_biases_is_not_relative():
    assert not steps()["bias"].relative


@EVERY
def test_decoding_one_token_is_the_last_row_of_all_at_once(name):
    query, key, value = inputs(q_len=7, dtype=torch.float64)
    rule = Rule(mask=masks.causal, scores=(steps()[name],))
    torch.testing.assert_close(
        rule(query[..., -1:, :], key, value, backend="eager"), rule(query, key, value)[..., -1:, :]
    )


@EVERY
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_the_context_keeps_the_dtype_of_the_inputs(name, dtype):
    assert Rule(scores=(steps()[name],))(*inputs(dtype=dtype), backend="eager").dtype == dtype


@EVERY
@pytest.mark.parametrize("sizes", [{"q_len": 0}, {"kv_len": 0, "q_len": 0}], ids=str)
def test_nothing_in_nothing_out(name, sizes):
    query, key, value = inputs(**sizes)
    context = Rule(scores=(steps()[name],))(query, key, value, q_start=0, backend="eager")
    assert context.shape == (*query.shape[:-1], 8)


@EVERY
def test_it_may_be_mapped_over_another_axis(name):
    query, key, value = inputs(batch=(4, 2))
    rule = Rule(mask=masks.causal, scores=(steps()[name],))
    mapped = torch.func.vmap(lambda *tensors: rule(*tensors, backend="eager"))(query, key, value)
    torch.testing.assert_close(mapped, rule(query, key, value, backend="eager"))


@pytest.mark.compiled
def test_all_of_them_are_traced_whole_and_for_every_length():
    torch._dynamo.reset()
    graphs = []

    def counted(graph, _):
        graphs.append(graph)
        return graph

    def attend(query, key, value, table, tensor):
        made = (SoftCap(5.0), Alibi(3), RelativeBias(table, max_distance=6), Bias(tensor))
        return Rule(mask=masks.causal, scores=made)(query, key, value, backend="eager")

    table, tensor = learned(8, 3).requires_grad_(), learned(3, 9, 9)
    compiled = torch.compile(attend, fullgraph=True, dynamic=True, backend=counted)
    for q_len, kv_len in ((5, 7), (6, 9), (3, 8)):
        tensors = *inputs(q_len=q_len, kv_len=kv_len), table, tensor
        torch.testing.assert_close(compiled(*tensors), attend(*tensors))
    assert len(graphs) == 1


@pytest.mark.compiled
def test_all_of_them_are_exported_with_lengths_that_are_not_yet_known():
    class Stepped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.tensor = torch.nn.Parameter(learned(8, 3)), torch.nn.Parameter(learned(3, 9, 9))

        def forward(self, query, key, value):
            made = (SoftCap(5.0), Alibi(3), RelativeBias(self.table, max_distance=6), Bias(self.tensor))
            return Rule(mask=masks.causal, scores=made)(query, key, value, backend="eager")

    length = torch.export.Dim("length", min=2, max=9)
    module = Stepped()
    program = torch.export.export(
        module, inputs(q_len=7, kv_len=7), dynamic_shapes=({2: length}, {2: length}, {2: length})
    )
    longer = inputs(q_len=9, kv_len=9)
    torch.testing.assert_close(program.module()(*longer), module(*longer))


def test_the_slopes_of_a_power_of_two_are_a_geometric_row():
    # the paper, section 3: for 8 heads 1/2, 1/4, ..., 1/256
    assert Alibi(8).slopes(torch.arange(8)).tolist() == [2.0**-i for i in range(1, 9)]


@pytest.mark.parametrize(
    ("num_heads", "exponents"),
    [
        (1, [8]),
        (6, [2, 4, 6, 8, 1, 3]),  # those of 4 heads, then the 1st and 3rd of 8
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),  # those of 8 heads, then every second of 16
    ],
)
def test_other_head_counts_borrow_from_the_power_above(num_heads, exponents):
    torch.testing.assert_close(
        Alibi(num_heads).slopes(torch.arange(num_heads)), torch.tensor([2.0**-e for e in exponents])
    )


def test_alibi_takes_slope_times_distance_on_both_sides():
    # 2 heads: slopes 2^-4 and 2^-8; the query stands at 2
    bias = Alibi(2).bias(*places(2, [2], range(5)))
    assert bias.tolist() == [[[-s * d for d in (2, 1, 0, 1, 2)]] for s in (1 / 16, 1 / 256)]


def test_causal_alibi_is_what_adding_slope_times_key_position_gives():
    # BLOOM's form: it differs by slope * q, the same for a whole row, and the softmax does not see that
    def by_key(score, head, q_pos, kv_pos):
        return score + torch.tensor([2.0**-4, 2.0**-8, 2.0**-2])[head] * kv_pos

    tensors = inputs(dtype=torch.float64)
    # three heads: two slopes of 2 heads, then the first of 4
    torch.testing.assert_close(
        Rule(mask=masks.causal, scores=(Alibi(3),))(*tensors),
        Rule(mask=masks.causal, scores=(by_key,))(*tensors),
    )


def test_alibi_counts_distance_exactly_at_a_million_tokens():
    # 2^20 tokens times 2^-8; float16 positions would stop at 65,504
    bias = Alibi(1).bias(*places(1, [2**20], [0]))
    assert bias.item() == -(2.0**12)


def test_the_buckets_of_t5_by_hand_both_ways():
    # 32 buckets, half of them a side: e = 8, and each further doubling of the distance takes 2 of 8 until 128 = 8 * 2^4
    step = RelativeBias(torch.zeros(32, 1))
    before = {
        0: 0,
        1: 1,
        7: 7,
        8: 8,
        15: 9,
        16: 10,
        31: 11,
        32: 12,
        63: 13,
        64: 14,
        127: 15,
        128: 15,
        9999: 15,
    }
    distance = torch.tensor(list(before))
    assert step.buckets(-distance).tolist() == list(before.values())
    assert step.buckets(distance[1:]).tolist() == [16 + bucket for bucket in list(before.values())[1:]]


def test_the_buckets_of_t5_by_hand_looking_back():
    # 32 buckets: e = 16; 32 = 16 * 2 is a third of the way to 128 = 16 * 2^3: 16 + floor(16 / 3) = 21; 64: 16 + 10
    step = RelativeBias(torch.zeros(32, 1), bidirectional=False)
    back = {0: 0, 15: 15, 16: 16, 32: 21, 64: 26, 127: 31, 128: 31, 500: 31}
    assert step.buckets(-torch.tensor(list(back))).tolist() == list(back.values())


def test_keys_after_the_query_share_the_first_bucket_when_looking_back():
    step = RelativeBias(torch.zeros(32, 1), bidirectional=False)
    assert step.buckets(torch.tensor([1, 2, 300])).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("num_buckets", "max_distance"),
    [
        *[(2, 33), (3, 64), (5, 100), (8, 128), (16, 128), (32, 128), (47, 64), (64, 1000)],
        # where a power in float64 comes out above a whole number, and where one lies just above it in truth
        *[(9, 128), (50, 800), (14, 64), (29, 300)],
    ],
)
def test_every_distance_has_the_bucket_of_the_formula_in_whole_numbers(num_buckets, max_distance):
    # floor(m log(d/e) / log(D/e)) >= j is d^m e^j >= D^j e^m, and whole numbers do not round
    e = num_buckets // 2
    m = num_buckets - e

    def formula(d):
        if d < e:
            return d
        return e + max(j for j in range(m) if d**m * e**j >= max_distance**j * e**m)

    step = RelativeBias(torch.zeros(num_buckets, 1), bidirectional=False, max_distance=max_distance)
    distances = range(max_distance + 3)
    assert step.buckets(-torch.tensor(distances)).tolist() == [formula(d) for d in distances]


def test_a_relative_bias_reads_the_row_of_the_bucket_and_the_column_of_the_head():
    table = learned(8, 3)
    step = RelativeBias(table, max_distance=6)
    bias = step.bias(*places(3, [4], [3, 4, 6]))
    # a side has 4 buckets: one before is bucket 1, itself 0, two after 4 + 2
    assert torch.equal(bias[:, 0], table[[1, 0, 6]].T)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_gradients_reach_the_table_twice(bidirectional):
    query, key, value = inputs(batch=(), q_len=3, kv_len=4, heads=2, dtype=torch.float64)

    def attend(table, query):
        step = RelativeBias(table, bidirectional=bidirectional, max_distance=3)
        return Rule(scores=(step,))(query, key, value, backend="eager")

    tensors = learned(4, 2, dtype=torch.float64).requires_grad_(), query.requires_grad_()
    assert gradcheck(attend, tensors)
    assert gradgradcheck(attend, tensors)


def test_gradients_reach_a_tensor_of_biases_twice():
    query, key, value = inputs(batch=(), q_len=2, kv_len=3, heads=2, dtype=torch.float64)

    def attend(tensor, query):
        return Rule(scores=(SoftCap(2.0), Bias(tensor)))(query, key, value, backend="eager")

    tensors = learned(2, 3, 3, dtype=torch.float64).requires_grad_(), query.requires_grad_()
    assert gradcheck(attend, tensors)
    assert gradgradcheck(attend, tensors)


def test_what_is_learned_is_told():
    table, tensor = learned(8, 3), learned(7, 7)
    assert RelativeBias(table).parameters()[0] is table
    assert Bias(tensor).parameters()[0] is tensor
    assert Alibi(3).parameters() == ()


@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (2, 1, 5, 7), (2, 3, 1, 7), (1, 1, 5, 1)], ids=str)
def test_a_bias_is_what_pytorch_adds_as_a_float_mask(shape):
    query, key, value = inputs()
    tensor = learned(*shape)
    torch.testing.assert_close(
        Rule(scores=(Bias(tensor),))(query, key, value, q_start=0, backend="eager"),
        scaled_dot_product_attention(query, key, value, attn_mask=tensor.expand(2, 3, 5, 7)),
    )


def test_rows_of_a_bias_are_positions_not_queries_of_the_call():
    # the last two of seven queries stand at positions 5 and 6
    tensor = learned(3, 7, 7)
    assert torch.equal(Bias(tensor).bias(*places(3, [5, 6], range(7))), tensor[:, 5:])


def test_steps_with_tensors_are_compared_without_comparing_numbers():
    table = learned(8, 3)
    assert RelativeBias(table) != RelativeBias(table.clone())
    assert Rule(scores=(one := Bias(table),)) == Rule(scores=(one,))
    assert hash(Rule(scores=(one,))) == hash(Rule(scores=(one,)))


def test_steps_read_shortly():
    assert (
        repr(RelativeBias(learned(8, 3)))
        == "RelativeBias(table of (8, 3), bidirectional=True, max_distance=128)"
    )
    assert repr(Bias(learned(7, 7))) == "Bias(tensor of (7, 7))"
    assert repr((Alibi(2), SoftCap(5.0))) == "(Alibi(num_heads=2), SoftCap(cap=5.0))"


def test_a_soft_cap_by_hand():
    # cap * tanh(score / cap): tanh(ln 2) = (2 - 1/2) / (2 + 1/2) = 0.6
    capped = SoftCap(10.0)(torch.tensor([[10 * math.log(2), 0.0]]), *places(1, [0], [0, 1]))
    torch.testing.assert_close(capped, torch.tensor([[6.0, 0.0]]))


def test_a_soft_cap_comes_before_the_mask():
    # after it, a hidden key would score -0.1 and be read nearly like the others
    weights = Rule(mask=masks.causal, scores=(SoftCap(0.1),)).inspect(*inputs(q_len=7)[:2]).weights()
    assert torch.equal(weights, weights.tril())


@pytest.mark.messages
@pytest.mark.parametrize("num_heads", [0, -1, 2.0, True, "8", None])
def test_a_number_of_heads_that_is_none_is_refused(num_heads):
    with pytest.raises(
        OptionError, match=r"Alibi: num_heads is how many(?s:.*); got (?s:.*)Alibi\(query\.shape\[-3\]\)"
    ):
        Alibi(num_heads)


@pytest.mark.messages
def test_alibi_for_other_heads_is_refused():
    with pytest.raises(
        ShapeError, match=r"Alibi: it was made for 8 heads; the scores have 3\n  fix: Alibi\(3\)"
    ):
        Rule(scores=(Alibi(8),))(*inputs(), backend="eager")


@pytest.mark.messages
def test_a_table_for_other_heads_is_refused():
    with pytest.raises(ShapeError, match=r"made for 4 heads; the scores have 3\n  fix: a table of \(8, 3\)"):
        Rule(scores=(RelativeBias(learned(8, 4)),))(*inputs(), backend="eager")


@pytest.mark.messages
@pytest.mark.parametrize(
    "table", [torch.zeros(8, 3).long(), torch.zeros(8, 3).bool(), [[0.0]], None], ids=str
)
def test_a_table_without_floats_is_refused(table):
    with pytest.raises(
        DtypeError, match=r"table must be a tensor of floats(?s:.*)torch\.zeros\(32, num_heads\)"
    ):
        RelativeBias(table)


@pytest.mark.messages
def test_a_table_of_one_axis_is_refused():
    with pytest.raises(ShapeError, match=r"table is \(num_buckets, num_heads\); got \(32,\)"):
        RelativeBias(torch.zeros(32))


@pytest.mark.messages
@pytest.mark.parametrize(("rows", "bidirectional"), [(2, True), (7, True), (0, True), (1, False), (0, False)])
def test_too_few_or_uneven_buckets_are_refused(rows, bidirectional):
    with pytest.raises(
        OptionError, match=rf"a table of {rows} buckets(?s:.*)torch\.zeros\(32, num_heads\), as in T5"
    ):
        RelativeBias(torch.zeros(rows, 3), bidirectional=bidirectional)


@pytest.mark.messages
@pytest.mark.parametrize("max_distance", [8, 0, -5, 128.0, True, None])
def test_a_largest_distance_among_the_exact_ones_is_refused(max_distance):
    with pytest.raises(OptionError, match=r"tokens above 8,(?s:.*); got (?s:.*)max_distance=128, as in T5"):
        RelativeBias(torch.zeros(32, 3), max_distance=max_distance)


@pytest.mark.messages
@pytest.mark.parametrize(
    "given", [torch.ones(7, 7).bool(), torch.ones(7, 7).int(), 1.0], ids=["bool", "int", "float"]
)
def test_a_bias_without_floats_is_refused(given):
    with pytest.raises(
        DtypeError, match=r"Bias: a bias is a tensor of floats(?s:.*)masks\.where(?s:.*)tensor\.float"
    ):
        Bias(given)


@pytest.mark.messages
def test_a_bias_of_one_axis_is_refused():
    with pytest.raises(
        ShapeError, match=r"got \(3,\)\n  fix: one number for each head is tensor\[:, None, None\]"
    ):
        Bias(torch.zeros(3))


@pytest.mark.messages
def test_a_bias_with_rows_for_the_queries_of_the_call_is_refused():
    message = (
        r"rows for query positions 0 to 4 and(?s:.*)0 to 6; these are 2 to 6 and 0 to 6(?s:.*)say q_start=0"
    )
    with pytest.raises(ShapeError, match=message):
        Rule(scores=(Bias(torch.zeros(5, 7)),))(*inputs(), backend="eager")


@pytest.mark.messages
def test_a_query_before_position_zero_has_no_row():
    # plain indexing would read the last rows for -2 and -1
    with pytest.raises(ShapeError, match=r"rows for query positions 0 to 6(?s:.*)these are -2 to 4"):
        Rule(scores=(Bias(torch.zeros(7, 7)),))(*inputs(q_len=7, kv_len=5), backend="eager")


@pytest.mark.messages
@pytest.mark.parametrize("shape", [(4, 1, 7, 7), (2, 2, 7, 7), (1, 2, 3, 7, 7)], ids=str)
def test_a_bias_for_another_batch_or_other_heads_is_refused(shape):
    message = r"Bias: the bias of Bias\(tensor of (?s:.*) the scores are \(2, 3, 5, 7\)\n  fix: each axis"
    with pytest.raises(ShapeError, match=message):
        Rule(scores=(Bias(torch.zeros(shape)),))(*inputs(), backend="eager")


@pytest.mark.messages
@pytest.mark.parametrize("cap", [0, -1.0, math.nan, math.inf, True, "50", None, torch.tensor(50.0)], ids=str)
def test_a_cap_that_caps_nothing_is_refused(cap):
    with pytest.raises(
        OptionError, match=r"SoftCap: cap is the size(?s:.*)above 0; got (?s:.*)SoftCap\(50\.0\)"
    ):
        SoftCap(cap)


@pytest.mark.messages
@pytest.mark.parametrize("shape", [(7, 5), (3, 7, 6), (2, 3, 7, 2)], ids=str)
def test_a_bias_with_too_few_columns_is_refused(shape):
    with pytest.raises(ShapeError, match=r"columns for key positions 0 to \d; these are 2 to 6 and 0 to 6"):
        Rule(scores=(Bias(torch.zeros(shape)),))(*inputs(), backend="eager")


@pytest.mark.messages
def test_a_transposed_table_is_told_so():
    rule = Rule(scores=(RelativeBias(learned(3, 8), bidirectional=False),))
    with pytest.raises(ShapeError, match=r"made for 8 heads; the scores have 3\n  fix: table\.mT"):
        rule(*inputs(), backend="eager")
