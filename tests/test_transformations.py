"""What PyTorch does to a function, done to rules of every kind: compile, export, autocast, vmap, two derivatives."""

import pytest
import torch

from attnkit import Rule, masks, normalizers, positions, scores
from attnkit.errors import BackendError
from tests.helpers import inputs

LENGTH, HEADS = 70, 3
WINDOW = masks.causal & (masks.window(20) | masks.first(2))
IDS = torch.tensor([[0, 0, 1, 2, 2], [5, 5, 5, 1, 5]]).repeat_interleave(14, -1)
RULES = {
    "causal": Rule(mask=masks.causal),
    "window or first": Rule(mask=WINDOW),
    "dilated": Rule(mask=masks.causal & masks.dilated(3, 5)),
    "strided": Rule(mask=masks.causal & ~masks.strided(7)),
    "blocks": Rule(mask=masks.blocks(16) | masks.random_blocks(16, 1)),
    "documents": Rule(mask=masks.documents(IDS)),
    "lengths": Rule(mask=masks.prefix(9) & masks.lengths([LENGTH, 0])),
    "where": Rule(mask=masks.where(lambda q, k: (q + k) % 3 != 0)),
    "alibi": Rule(mask=WINDOW, scores=(scores.Alibi(HEADS),)),
    "soft cap": Rule(mask=WINDOW, scores=(scores.SoftCap(5.0),)),
    "sink": Rule(mask=masks.causal, normalizer=normalizers.SoftmaxOne()),
    "sigmoid": Rule(mask=WINDOW, normalizer=normalizers.Sigmoid()),
    "top k": Rule(mask=masks.causal, normalizer=normalizers.TopK(4)),
    "sparsemax": Rule(mask=masks.causal, normalizer=normalizers.Sparsemax()),
    "rotary": Rule(mask=masks.causal, positions=positions.Rotary(), scale=0.3),
}


def same_length(**options):
    return inputs(q_len=LENGTH, kv_len=LENGTH, heads=HEADS, **options)


def with_gradients(function, tensors):
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    context = function(*leaves)
    context.sin().sum().backward()
    return [context.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.compiled
@pytest.mark.parametrize("name", RULES)
def test_a_rule_compiles_into_one_graph_with_its_gradients(name):
    rule, tensors = RULES[name], same_length(dtype=torch.float64)
    torch.compiler.reset()
    compiled = torch.compile(lambda *sides: rule(*sides), fullgraph=True, backend="aot_eager")
    found = with_gradients(compiled, tensors)
    expected = with_gradients(lambda *sides: rule(*sides, backend="eager"), tensors)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.compiled
@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_exported(name):
    rule, tensors = RULES[name], same_length()

    class Layer(torch.nn.Module):
        def forward(self, query, key, value):
            return rule(query, key, value)

    program = torch.export.export(Layer(), tensors)
    torch.testing.assert_close(program.module()(*tensors), rule(*tensors, backend="eager"))


@pytest.mark.parametrize("backend", ["eager", "tiled", None])
@pytest.mark.parametrize("name", RULES)
def test_autocast_decides_the_dtype_and_the_values_stay_near(name, backend):
    rule, tensors = RULES[name], same_length()
    exact = rule(*(tensor.double() for tensor in tensors), backend="eager")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        context = rule(*tensors, backend=backend)
    assert context.dtype == torch.bfloat16
    # the scores reach 60 here, and bfloat16 keeps 8 bits of them: weights move by up to a quarter
    near = (context.double() - exact).abs().mean() / exact.abs().mean()
    assert near < 0.1


@pytest.mark.parametrize("name", sorted(set(RULES) - {"documents", "lengths"}))
def test_samples_of_a_vmap_are_samples_of_a_batch(name):
    rule, tensors = RULES[name], same_length(dtype=torch.float64)
    torch.testing.assert_close(torch.func.vmap(rule)(*tensors), rule(*tensors, backend="eager"))


@pytest.mark.parametrize(
    "name", sorted(set(RULES) - {"top k", "sparsemax"})
)  # tested where they are, away from ties
def test_eager_has_a_second_derivative(name):
    rule = RULES[name]
    ids = masks.documents([[0, 0, 1, 1], [2, 2, 2, 0]])
    small = Rule(mask=ids) if name == "documents" else rule
    tensors = inputs(q_len=3, kv_len=4, heads=HEADS, dtype=torch.float64, grad=True)
    assert torch.autograd.gradgradcheck(lambda *sides: small(*sides, backend="eager"), tensors)


def test_a_second_derivative_of_tiles_is_refused_in_words():
    tensors = same_length(grad=True)
    context = RULES["window or first"](*tensors, backend="tiled")
    (gradient,) = torch.autograd.grad(context.sum(), tensors[0], create_graph=True)
    with pytest.raises(BackendError):
        gradient.sum().backward()


@pytest.mark.parametrize("backend", ["sdpa", "tiled"])
@pytest.mark.parametrize("head_dim", [1, 2, 3, 15, 16, 33, 64, 65, 127, 128, 129])
def test_any_head_dim_will_do(head_dim, backend):
    generator = torch.Generator().manual_seed(head_dim)
    tensors = [torch.randn(1, 2, LENGTH, head_dim, generator=generator) for _ in range(3)]
    found = with_gradients(lambda *sides: Rule(mask=WINDOW)(*sides, backend=backend), tensors)
    exact = [tensor.double() for tensor in tensors]
    expected = with_gradients(lambda *sides: Rule(mask=WINDOW)(*sides, backend="eager"), exact)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", ["sdpa", "tiled", "eager"])
def test_expanded_keys_are_read_as_if_they_were_copied(backend):
    query, key, value = same_length(kv_heads=1)
    spread = [side.expand(-1, HEADS, -1, -1) for side in (key, value)]
    found = Rule(mask=WINDOW)(query, *spread, backend=backend)
    torch.testing.assert_close(found, Rule(mask=WINDOW)(query, key, value, backend="eager"))


@pytest.mark.parametrize("backend", ["sdpa", "tiled", "eager", None])
@pytest.mark.parametrize("sizes", [(0, 7), (5, 0), (0, 0), (1, 1), (1, 7)])
@pytest.mark.parametrize("batch", [(0,), (2,)])
def test_empty_axes_and_single_tokens_pass_through_with_gradients(batch, sizes, backend):
    q_len, kv_len = sizes
    tensors = inputs(q_len=q_len, kv_len=kv_len, batch=batch, grad=True)
    context = Rule(mask=WINDOW)(*tensors, backend=backend)
    context.sum().backward()
    assert context.shape == (*batch, 3, q_len, 8)
    assert all(tensor.grad.shape == tensor.shape for tensor in tensors)
