"""The tutorial's modules: the numbers, names and checkpoints that readers know, and what happens off the path."""

import copy
import pickle

import pytest
import torch
from torch import nn

import attnkit as ak
from attnkit.layers import teaching

# "Your journey starts with one step", three numbers a word; printed numbers below are to four decimals.
INPUTS = torch.tensor(
    [
        [0.43, 0.15, 0.89],
        [0.55, 0.87, 0.66],
        [0.57, 0.85, 0.64],
        [0.22, 0.58, 0.33],
        [0.77, 0.25, 0.10],
        [0.05, 0.80, 0.55],
    ]
)
BATCH = torch.stack((INPUTS, INPUTS))
CAUSAL_HEAD = [
    [-0.4519, 0.2216],
    [-0.5874, 0.0058],
    [-0.6300, -0.0632],
    [-0.5675, -0.0843],
    [-0.5526, -0.0981],
    [-0.5299, -0.1081],
]
SECOND_HEAD = [
    [0.4772, 0.1063],
    [0.5891, 0.3257],
    [0.6202, 0.3860],
    [0.5478, 0.3589],
    [0.5321, 0.3428],
    [0.5077, 0.3493],
]
PRINTED = {
    "SelfAttention": (
        lambda: ak.SelfAttention(3, 2), 123, INPUTS,
        [[0.2996, 0.8053], [0.3061, 0.8210], [0.3058, 0.8203], [0.2948, 0.7939], [0.2927, 0.7891], [0.2990, 0.8040]],
    ),
    "SelfAttentionv2": (
        lambda: ak.SelfAttentionv2(3, 2), 789, INPUTS,
        [[-0.0739, 0.0713], [-0.0748, 0.0703], [-0.0749, 0.0702],
         [-0.0760, 0.0685], [-0.0763, 0.0679], [-0.0754, 0.0693]],
    ),
    "CausalAttention": (lambda: ak.CausalAttention(3, 2, 6, 0.0), 123, BATCH, [CAUSAL_HEAD] * 2),
    "MultiHeadAttentionWrapper": (
        lambda: ak.MultiHeadAttentionWrapper(3, 2, 6, 0.0, 2), 123, BATCH,
        [[first + second for first, second in zip(CAUSAL_HEAD, SECOND_HEAD, strict=True)]] * 2,
    ),
    "MultiHeadAttention": (
        lambda: ak.MultiHeadAttention(3, 2, 6, 0.0, 2), 123, BATCH,
        [[[0.3190, 0.4858], [0.2943, 0.3897], [0.2856, 0.3593],
          [0.2693, 0.3873], [0.2639, 0.3928], [0.2575, 0.4028]]] * 2,
    ),
}  # fmt: skip
CAUSAL = ("CausalAttention", "MultiHeadAttentionWrapper", "MultiHeadAttention")


def made(name, dropout=0.0, d_in=6, d_out=4, context_length=8):
    """A layer of sizes that differ: width 6 in, 4 out, two heads where there are heads."""
    torch.manual_seed(0)
    return {
        "SelfAttention": lambda: ak.SelfAttention(d_in, d_out),
        "SelfAttentionv2": lambda: ak.SelfAttentionv2(d_in, d_out),
        "CausalAttention": lambda: ak.CausalAttention(d_in, d_out, context_length, dropout),
        "MultiHeadAttentionWrapper": lambda: ak.MultiHeadAttentionWrapper(
            d_in, d_out // 2, context_length, dropout, 2
        ),
        "MultiHeadAttention": lambda: ak.MultiHeadAttention(d_in, d_out, context_length, dropout, 2),
    }[name]()


def peaked(*shape):
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", PRINTED)
def test_a_reader_gets_the_printed_numbers(name):
    make, seed, x, printed = PRINTED[name]
    torch.manual_seed(seed)
    torch.testing.assert_close(make()(x), torch.tensor(printed), atol=1e-4, rtol=0)


def test_version_one_with_the_transposed_weights_of_version_two_gives_the_same():
    torch.manual_seed(123)
    second, first = ak.SelfAttentionv2(3, 2), ak.SelfAttention(3, 2)
    with torch.no_grad():
        for parameter in ("W_query", "W_key", "W_value"):
            getattr(first, parameter).copy_(getattr(second, parameter).weight.T)
    torch.testing.assert_close(first(INPUTS), second(INPUTS))


def test_both_spellings_name_the_same_classes():
    assert ak.SelfAttention_v1 is ak.SelfAttention
    assert ak.SelfAttention_v2 is ak.SelfAttentionv2


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("SelfAttention", {"W_query": (6, 4), "W_key": (6, 4), "W_value": (6, 4)}),
        ("SelfAttentionv2", {"W_query.weight": (4, 6), "W_key.weight": (4, 6), "W_value.weight": (4, 6)}),
        ("CausalAttention", {"W_query.weight": (4, 6), "W_key.weight": (4, 6), "W_value.weight": (4, 6)}),
        (
            "MultiHeadAttentionWrapper",
            {
                f"heads.{head}.W_{role}.weight": (2, 6)
                for head in (0, 1)
                for role in ("query", "key", "value")
            },
        ),
        (
            "MultiHeadAttention",
            {"W_query.weight": (4, 6), "W_key.weight": (4, 6), "W_value.weight": (4, 6)}
            | {"out_proj.weight": (4, 4), "out_proj.bias": (4,)},
        ),
    ],
)
def test_a_checkpoint_holds_these_entries_in_this_order_and_no_mask(name, entries):
    found = {key: tuple(tensor.shape) for key, tensor in made(name).state_dict().items()}
    assert list(found.items()) == list(entries.items())


def test_qkv_bias_adds_three_biases():
    keys = set(ak.CausalAttention(6, 4, 8, 0.0, True).state_dict()) - set(
        made("CausalAttention").state_dict()
    )
    assert keys == {"W_query.bias", "W_key.bias", "W_value.bias"}


def test_twelve_heads_of_768_have_as_many_parameters_as_known():
    # 3 * 768 * 768 without bias, and 768 * 768 + 768 at the end
    layer = ak.MultiHeadAttention(768, 768, 1024, 0.0, 12)
    assert sum(p.numel() for p in layer.parameters()) == 4 * 768**2 + 768 == 2_360_064


@pytest.mark.parametrize("name", CAUSAL)
def test_a_checkpoint_that_holds_masks_loads(name):
    layer = made(name)
    stored = dict(layer.state_dict())
    prefixes = ("heads.0.", "heads.1.") if name == "MultiHeadAttentionWrapper" else ("",)
    # of another context length, too
    stored |= {f"{prefix}mask": torch.ones(16, 16).triu(1) for prefix in prefixes}
    other = made(name)
    nn.init.zeros_(next(other.parameters()))
    assert other.load_state_dict(stored) == ([], [])
    torch.testing.assert_close(other(peaked(2, 5, 6)), layer(peaked(2, 5, 6)))
    assert f"{prefixes[0]}mask" in stored, "the caller's checkpoint is left as it was"


def test_any_other_surplus_entry_still_stops_a_load():
    layer = made("MultiHeadAttention")
    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "surplus"'):
        layer.load_state_dict({**layer.state_dict(), "surplus": torch.ones(1)})


@pytest.mark.parametrize("name", PRINTED)
def test_any_leading_batch_axes_will_do(name):
    layer, x = made(name), peaked(2, 3, 5, 6)
    one_by_one = torch.stack([torch.stack([layer(sample) for sample in group]) for group in x])
    torch.testing.assert_close(layer(x), one_by_one)


@pytest.mark.parametrize("name", PRINTED)
@pytest.mark.parametrize("shape", [(0, 5, 6), (2, 1, 6), (2, 0, 6)])
def test_an_empty_batch_one_token_and_no_token_work(name, shape):
    assert made(name)(peaked(*shape)).shape == (*shape[:-1], 4)


@pytest.mark.parametrize("name", CAUSAL)
def test_outputs_do_not_move_with_later_tokens(name):
    layer, x = made(name), peaked(2, 8, 6)
    for cut in range(1, 8):
        torch.testing.assert_close(layer(x)[:, :cut], layer(x[:, :cut]))


@pytest.mark.parametrize("name", ["SelfAttention", "SelfAttentionv2"])
def test_without_a_mask_every_output_reads_every_token(name):
    jacobian = torch.autograd.functional.jacobian(made(name), 0.3 * peaked(5, 6))
    assert (jacobian.abs().amax((1, 3)) > 0).all()


def test_the_tutorials_causal_mask_aligns_ends():
    # 2 queries at positions 2 and 3 of 4 keys
    assert teaching.causal_mask(2, 4).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_a_query_with_nothing_to_read_gets_zeros_from_the_tutorials_attend():
    x = peaked(3, 4).requires_grad_()
    mask = torch.tensor([[False, False, False], [True, False, False], [True, True, True]])
    context = teaching.attend(x, x, x, mask)
    context.sum().backward()
    assert torch.equal(context[0], torch.zeros(4))
    assert x.grad.isfinite().all()


def test_the_last_causal_output_is_that_of_plain_self_attention():
    torch.manual_seed(123)
    causal = ak.CausalAttention(3, 2, 6, 0.0)
    torch.manual_seed(123)
    plain = ak.SelfAttentionv2(3, 2)
    torch.testing.assert_close(causal(INPUTS)[-1], plain(INPUTS)[-1])
    torch.testing.assert_close(causal(INPUTS)[0], causal.W_value(INPUTS)[0])


@pytest.mark.parametrize("name", PRINTED)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_moving_a_layer_to_another_dtype_is_all_it_takes(name, dtype):
    output = made(name).to(dtype)(peaked(2, 5, 6).to(dtype))
    assert output.dtype == dtype
    assert output.isfinite().all()


@pytest.mark.parametrize("name", PRINTED)
def test_moving_a_layer_to_another_device_is_all_it_takes(name):
    output = made(name).to("meta")(peaked(2, 5, 6).to("meta"))
    assert (output.device.type, output.shape) == ("meta", (2, 5, 4))


@pytest.mark.parametrize("name", PRINTED)
@pytest.mark.parametrize("again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_computes_the_same(name, again):
    layer, x = made(name), peaked(2, 5, 6)
    twin = again(layer)
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin(x), layer(x))


@pytest.mark.compiled
@pytest.mark.parametrize("name", PRINTED)
def test_a_layer_runs_whole_under_compile(name):
    layer, x = made(name), peaked(2, 5, 6)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))


@pytest.mark.compiled
def test_multi_head_attention_is_exported_for_any_length():
    layer, length = made("MultiHeadAttention").eval(), torch.export.Dim("length", min=2, max=8)
    program = torch.export.export(layer, (peaked(2, 5, 6),), dynamic_shapes=({1: length},))
    torch.testing.assert_close(program.module()(peaked(2, 8, 6)), layer(peaked(2, 8, 6)))


@pytest.mark.parametrize("name", CAUSAL)
def test_dropout_acts_in_training_alone(name):
    layer, x = made(name, dropout=0.5), peaked(2, 8, 6)
    still = made(name)(x)
    torch.testing.assert_close(layer.eval()(x), still)
    assert (layer.train()(x) - still).abs().max() > 0.01


def test_the_packages_multi_head_attention_equals_the_tutorials():
    ours, tutorial = made("MultiHeadAttention"), teaching.MultiHeadAttention(6, 4, 8, 0.0, 2)
    tutorial.load_state_dict(ours.state_dict())
    x, probe = peaked(2, 5, 6), peaked(2, 5, 4)
    results = []
    for layer in (ours, tutorial):
        leaf = x.clone().requires_grad_()
        output = layer(leaf)
        output.backward(probe)
        results.append([output, leaf.grad, *(p.grad for p in layer.parameters())])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_the_package_changes_one_method_of_the_tutorials_class():
    changed = {name for name in vars(ak.MultiHeadAttention) if not name.startswith("__")}
    assert ak.MultiHeadAttention.__bases__ == (teaching.MultiHeadAttention,)
    assert changed == {"attend"}


def test_multi_head_attention_matches_torch():
    # independent oracle: nn.MultiheadAttention with the same matrices; its True means "ignore"
    layer = made("MultiHeadAttention", d_in=4)
    oracle = nn.MultiheadAttention(4, 2, bias=True, batch_first=True)
    with torch.no_grad():
        oracle.in_proj_weight.copy_(
            torch.cat([layer.W_query.weight, layer.W_key.weight, layer.W_value.weight])
        )
        oracle.in_proj_bias.zero_()
        oracle.out_proj.load_state_dict(layer.out_proj.state_dict())
    x = peaked(3, 5, 4)
    expected, _ = oracle(x, x, x, attn_mask=torch.ones(5, 5, dtype=torch.bool).triu(1))
    torch.testing.assert_close(layer(x), expected)


def test_wrapped_heads_equal_one_layer_with_their_matrices_stacked():
    wrapper, whole = made("MultiHeadAttentionWrapper"), made("MultiHeadAttention")
    with torch.no_grad():
        for role in ("W_query", "W_key", "W_value"):
            getattr(whole, role).weight.copy_(
                torch.cat([getattr(head, role).weight for head in wrapper.heads])
            )
        whole.out_proj.weight.copy_(torch.eye(4))
        whole.out_proj.bias.zero_()
    torch.testing.assert_close(whole(peaked(2, 5, 6)), wrapper(peaked(2, 5, 6)))


@pytest.mark.messages
@pytest.mark.parametrize("name", PRINTED)
def test_whole_numbers_are_sent_to_an_embedding(name):
    with pytest.raises(
        ak.DtypeError, match=r"x holds int64(?s:.*)torch\.nn\.Embedding\(vocabulary_size, 6\)"
    ):
        made(name)(torch.ones(2, 5, dtype=torch.long))


@pytest.mark.messages
@pytest.mark.parametrize("name", PRINTED)
def test_a_list_is_sent_to_a_tensor(name):
    with pytest.raises(ak.DtypeError, match=r"x is a list(?s:.*)torch\.as_tensor"):
        made(name)([[1.0] * 6])


@pytest.mark.messages
@pytest.mark.parametrize("name", PRINTED)
def test_a_wrong_last_axis_is_named(name):
    with pytest.raises(
        ak.ShapeError, match=r"last axis of x \(2, 5, 7\) is 7; this layer was made for d_in=6"
    ):
        made(name)(peaked(2, 5, 7))


@pytest.mark.messages
@pytest.mark.parametrize("name", PRINTED)
def test_a_single_vector_is_told_to_become_a_token(name):
    with pytest.raises(ak.ShapeError, match=r"x has shape \(6,\)(?s:.*)x\[None\]"):
        made(name)(peaked(6))


@pytest.mark.messages
@pytest.mark.parametrize("name", CAUSAL)
def test_too_many_tokens_are_counted(name):
    with pytest.raises(
        ak.ShapeError, match=r"has 9 tokens, more than context_length=8(?s:.*)x\[\.\.\., -8:, :\]"
    ):
        made(name)(peaked(2, 9, 6))


@pytest.mark.messages
def test_a_width_that_the_heads_cannot_share_is_refused():
    with pytest.raises(
        ak.ShapeError, match=r"3 heads cannot share d_out=4 evenly: 1\.33(?s:.*)d_out=6 \(2 each\)"
    ):
        ak.MultiHeadAttention(6, 4, 8, 0.0, 3)


@pytest.mark.messages
@pytest.mark.parametrize("layer", [ak.MultiHeadAttention, ak.MultiHeadAttentionWrapper])
@pytest.mark.parametrize("num_heads", [0, -2, 2.0])
def test_a_number_of_heads_that_cannot_be_is_refused(layer, num_heads):
    with pytest.raises(ak.OptionError, match=rf"num_heads is 1, 2, 3, ...; got {num_heads}"):
        layer(6, 4, 8, 0.0, num_heads)


@pytest.mark.messages
@pytest.mark.parametrize("layer", [ak.MultiHeadAttention, ak.MultiHeadAttentionWrapper])
def test_dropout_and_heads_in_the_wrong_order_are_noticed(layer):
    with pytest.raises(
        ak.OptionError, match=r"from 0 to 1; got 2(?s:.*)\(d_in, d_out, context_length, dropout"
    ):
        layer(6, 4, 8, 2, 1)
