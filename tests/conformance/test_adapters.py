"""How targets are called: as their own libraries call them, by the names of arguments, and as functions."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import attnkit
from attnkit.conformance import Declared, TargetError, check
from attnkit.conformance.adapters import subject_of, told_of
from tests.conformance import lookalikes
from tests.conformance.lookalikes import WIDTH, Base, heads, merged


def subject(target, **said):
    declared = told_of(target, Declared(**said))
    return subject_of(target, declared)


def tokens(length=5, width=WIDTH, batch=3):
    return 3 * torch.randn(
        batch, length, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def hiding(length=5, batch=3):
    keep = torch.ones(batch, length, dtype=torch.bool)
    keep[0, 2], keep[1, 0] = False, False
    return keep


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_torchs_layer_is_called_in_its_own_layout_with_masks_that_hide(batch_first, causal):
    # by hand: its own weights, and the softmax written out
    module = nn.MultiheadAttention(WIDTH, 4, batch_first=batch_first, dtype=torch.float64).eval()
    x, keep = tokens(), hiding()
    query, key, value = (
        heads(one) for one in functional.linear(x, module.in_proj_weight, module.in_proj_bias).chunk(3, -1)
    )
    kept = keep[:, None, None, :] & (torch.ones(5, 5, dtype=torch.bool).tril() if causal else True)
    scores = (query @ key.mT / math.sqrt(WIDTH // 4)).masked_fill(~kept, -math.inf)
    expected = module.out_proj(merged(scores.softmax(-1) @ value))
    found = subject(module, causal=causal)(x, keep=keep)
    rows = keep if causal else torch.ones_like(keep)  # a first token that is hidden has nothing to read
    torch.testing.assert_close(found[rows], expected[rows])


def test_a_memory_of_another_width_is_given_to_torchs_layer():
    module = nn.MultiheadAttention(WIDTH, 4, kdim=18, vdim=18, batch_first=True)
    one = subject(module, cross=True)
    x, memory = tokens(), tokens(4, 18)
    assert (one.d_in, one.memory_dim, one.takes_memory) == (WIDTH, 18, True)
    expected = copy.deepcopy(module).double().eval()(x, memory, memory)[0]
    torch.testing.assert_close(one(x, memory=memory), expected)


def test_what_a_type_says_by_itself_is_taken_as_declared():
    layer = attnkit.Attention(24, 4, mechanism="causal", num_kv_heads=2, dropout=0.1)
    told = told_of(layer, Declared())
    assert (told.causal, told.num_heads, told.num_kv_heads, told.dropout) == (True, 4, 2, 0.1)


def test_what_was_said_goes_before_what_a_type_says():
    assert (
        told_of(nn.MultiheadAttention(24, 4, dropout=0.1), Declared(num_heads=2, dropout=0.2)).num_heads == 2
    )


@pytest.mark.parametrize(
    ("module", "causal", "width"),
    [
        (attnkit.SelfAttention(8, 6), False, 8),
        (attnkit.SelfAttentionv2(8, 6), False, 8),
        (attnkit.CausalAttention(8, 6, 9, 0.1), True, 8),
        (attnkit.MultiHeadAttentionWrapper(8, 6, 9, 0.1, 2), True, 8),
        (attnkit.MultiHeadAttention(8, 6, 9, 0.1, 2), True, 8),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_tutorials_classes_are_known(module, causal, width):
    assert told_of(module, Declared()).causal == causal
    assert subject(module).d_in == width


def test_a_causal_class_of_the_tutorial_that_leaks_is_caught_without_being_told():
    class Leaky(attnkit.MultiHeadAttention):
        def attend(self, query, key, value):
            return functional.scaled_dot_product_attention(query, key, value)

    assert check(Leaky(8, 6, 128, 0.0, 2)).fault == "future-leak"


FORMS = [
    (lookalikes.Fused, ((), torch.bool)),
    (lookalikes.FloatMasked, ((1, 1), torch.long)),
    (lookalikes.TaughtByAnnotation, ((1,), torch.bool)),
]


@pytest.mark.parametrize(("make", "form"), FORMS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_form_of_a_mask_that_a_module_takes_is_found(make, form):
    one = subject(make(), d_in=WIDTH)
    assert (one.call.form, one.takes_keep) == (form, True)
    x, keep = tokens(), hiding()
    other = torch.where(keep[..., None], x, -x)
    torch.testing.assert_close(one(x, keep=keep)[keep], one(other, keep=keep)[keep])


def test_a_mask_that_a_call_cannot_leave_out_keeps_everything():
    class Needs(lookalikes.Fused):
        def forward(self, x, mask):
            return super().forward(x, mask)

    module = Needs()
    x = tokens()
    torch.testing.assert_close(subject(module)(x), module.double()(x, torch.ones(3, 5, dtype=torch.bool)))


def test_other_names_for_query_key_and_value_are_read():
    class Named(Base):
        def forward(self, q, k, v):
            query, key, value = heads(self.query(q)), heads(self.key(k)), heads(self.value(v))
            return self.output(merged(functional.scaled_dot_product_attention(query, key, value)))

    one = subject(Named(), cross=True)
    assert one.takes_memory
    assert one(tokens(), memory=tokens(4)).shape == (3, 5, WIDTH)


def test_tokens_may_be_the_first_of_any_arguments():
    class Starred(Base):
        def forward(self, *given, context=None):
            (x,) = given
            read = x if context is None else context
            query, key, value = heads(self.query(x)), heads(self.key(read)), heads(self.value(read))
            return self.output(merged(functional.scaled_dot_product_attention(query, key, value)))

    assert subject(Starred())(tokens()).shape == (3, 5, WIDTH)
    assert subject(Starred(), cross=True).takes_memory


def test_a_module_without_matrices_is_a_function_of_heads():
    class Core(nn.Module):
        def forward(self, query, key, value):
            return functional.scaled_dot_product_attention(query, key, value)

    one = subject(Core(), num_heads=2)
    assert (one.name, one.d_in) == ("Core", 12)
    assert check(Core(), num_heads=2).ok


def test_complex_numbers_stay_complex():
    one = subject(lookalikes.ComplexRotary())
    assert one.module.turns.dtype is torch.complex128
    assert one.copied(dtype=torch.float32).module.turns.dtype is torch.complex64
    # without its imaginary part, a turn would be a factor
    assert one.module.turns.imag.abs().max() > 0.1


def ignores_everything(module, x, memory, keep, cache):
    return module(x)


def passes_mask(module, x, memory, keep, cache):
    return module(x, keep)


def test_a_call_that_passes_on_no_mask_is_not_said_to_take_one():
    one = subject(lookalikes.Fused(), call=ignores_everything)
    assert (one.takes_keep, one.takes_cache) == (False, False)
    assert check(lookalikes.Fused(), call=ignores_everything).ok


def test_a_call_that_passes_on_a_mask_is_found_out():
    assert subject(lookalikes.Fused(), call=passes_mask).takes_keep


def test_a_mask_that_is_declared_has_to_act():
    assert check(lookalikes.Fused(), call=ignores_everything, mask=True).fault == "mask-ignored"


def decodes(module, x, memory, keep, cache):
    if cache is None:
        return module(x)
    held = cache.get("held") or module.new_cache()
    return module(x, cache=held), {"held": held}


def test_a_call_that_goes_on_from_a_cache_is_found_out():
    assert subject(attnkit.Attention(24, 4, mechanism="causal"), call=decodes, causal=True).takes_cache


def test_a_compiled_module_is_checked_as_it_was_before():
    module = torch.compile(lookalikes.Fused(), backend="eager")
    one = subject(module)
    assert one.name == "Fused, as it was before compiling"
    assert type(one.module) is lookalikes.Fused


def test_the_target_itself_is_never_called_and_stays_as_it_is():
    module = lookalikes.Fused().train()
    before = copy.deepcopy(module.state_dict())
    module.register_forward_hook(lambda own, given, output: pytest.fail("called") if own is module else None)
    assert check(module).ok
    assert module.training
    assert {name: tensor.dtype for name, tensor in module.state_dict().items()} == dict.fromkeys(
        before, torch.float32
    )
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


REFUSED = [
    (lookalikes.Fused, {}, r"Fused is a class\n  fix: make one first: check\(Fused\(...\)\)"),
    (3, {}, r"got a int\n  fix: check\(my_layer, d_in=24\)"),
    (nn.LazyLinear(3), {"d_in": 4}, r"LazyLinear has sizes that its first call sets\n  fix: call it once"),
    (nn.Linear(3, 3, device="meta"), {"d_in": 3}, r"Linear is on the meta device(?s:.*)fix: module.to_empty"),
    (nn.Identity(), {}, r"how many numbers a token of Identity has\n  fix: check\(module, d_in=24\)"),
    (
        type("Odd", (nn.Identity,), {"forward": lambda self, *, mask: mask})(),
        {"d_in": 3},
        r"Odd.forward names no argument for",
    ),
    (
        lookalikes.Fused(),
        {"projections": {"query": "to_q"}},
        r"no submodule 'to_q', which was said to be its query",
    ),
]


@pytest.mark.messages
@pytest.mark.parametrize(("target", "said", "text"), REFUSED)
def test_what_cannot_be_called_is_refused_with_what_to_write(target, said, text):
    with pytest.raises(TargetError, match=text):
        check(target, **said)
