"""The matrix: many rules, on every backend that accepts them, against the eager rule in float64.

Outputs and every gradient, those of learned tables and sinks too; then the same rules one token at a time, in chunks
and all at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from attnkit import Rule, masks, normalizers, positions, scores
from attnkit.backends import flex
from attnkit.backends.flex import kernels
from attnkit.errors import BackendError
from tests.helpers import inputs

# several tiles of every backend, no length a multiple of another
Q_LEN, KV_LEN, HEADS = 150, 210, 6
# as in tests/test_backends.py: what a backend may err, in what the written-out formula errs in that precision
FACTOR = {torch.float32: 25.0, torch.bfloat16: 12.0, torch.float16: 24.0}

CAUSAL = masks.causal
IDS = torch.arange(KV_LEN) // 37
SCATTERED_IDS = torch.tensor([[0, 1, 0, 2, 1], [3, 3, 1, 0, 3]]).repeat_interleave(KV_LEN // 5, -1)
MASKS = {
    "full": masks.full,
    "causal": CAUSAL,
    "window": CAUSAL & masks.window(20),
    "window that sees ahead": masks.window(20),
    "window both ways": masks.window(20) & ~masks.where(lambda q, k: k - q > 20),
    "window or first": CAUSAL & (masks.window(20) | masks.first(4)),
    "prefix": masks.prefix(90),
    "dilated": CAUSAL & masks.dilated(3, 9),
    "strided": CAUSAL & (masks.window(16) | masks.strided(16)),
    "blocks": masks.blocks(48),
    "random blocks": CAUSAL & (masks.window(16) | masks.random_blocks(16, 2, seed=1)),
    "documents": CAUSAL & masks.documents(IDS),
    "documents that return, a sample each": CAUSAL & masks.documents(SCATTERED_IDS),
    "lengths": CAUSAL & masks.lengths([KV_LEN, 77]),
    "lengths with an empty sample": masks.lengths([0, 140]),
    "where": CAUSAL & masks.where(lambda q, k: (q + 2 * k) % 5 != 0),
    "not a window": CAUSAL & ~masks.window(30),
    "rows that are dead": CAUSAL & masks.blocks(40) & ~masks.blocks(20),
}


def softened(score: Tensor, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
    """A reader's own step, of everything that it is told."""
    return score * 0.9 - 0.01 * (head + 1) * (q_pos - kv_pos).abs()


def learned(*shape: int, seed: int) -> Tensor:
    """A tensor that a layer would own."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@dataclass(frozen=True)
class Case:
    """A rule, made for a given set of learned tensors, and how it is called."""

    make: Callable[..., Rule]
    learned: tuple[Tensor, ...] = ()
    q_start: int | None = None
    kv_heads: int = HEADS


def of(mask: masks.Mask = CAUSAL, **options) -> Callable[..., Rule]:
    """A rule without anything learned."""
    return lambda: Rule(mask=mask, **options)


WINDOW = MASKS["window"]
SINKS = masks.first(4) | masks.window(20)
CASES = {f"{name} mask": Case(of(mask)) for name, mask in MASKS.items()} | {
    "scale": Case(of(scale=0.3)),
    "rotary": Case(of(WINDOW, positions=positions.Rotary())),
    "alibi": Case(of(scores=(scores.Alibi(HEADS),))),
    "alibi in a window": Case(of(WINDOW, scores=(scores.Alibi(HEADS),))),
    "alibi in documents": Case(of(MASKS["documents"], scores=(scores.Alibi(HEADS),))),
    "relative bias": Case(
        lambda table: Rule(mask=CAUSAL, scores=(scores.RelativeBias(table),)), (learned(32, HEADS, seed=1),)
    ),
    "relative bias in a window": Case(
        lambda table: Rule(mask=WINDOW, scores=(scores.RelativeBias(table, bidirectional=False),)),
        (learned(32, HEADS, seed=2),),
    ),
    "bias": Case(
        lambda bias: Rule(mask=CAUSAL, scores=(scores.Bias(bias),)), (learned(HEADS, KV_LEN, KV_LEN, seed=3),)
    ),
    "bias the same for all heads": Case(
        lambda bias: Rule(mask=masks.full, scores=(scores.Bias(bias),)), (learned(KV_LEN, KV_LEN, seed=4),)
    ),
    "soft cap": Case(of(scores=(scores.SoftCap(5.0),))),
    "soft cap in a window": Case(of(WINDOW, scores=(scores.SoftCap(5.0),))),
    "soft cap, then alibi": Case(of(scores=(scores.SoftCap(5.0), scores.Alibi(HEADS)))),
    "a reader's step": Case(of(WINDOW, scores=(softened,))),
    "a reader's step that learns": Case(
        lambda slope: Rule(mask=WINDOW, scores=(lambda s, h, q, k: s * slope[h],)), (learned(HEADS, seed=5),)
    ),
    "sink": Case(
        lambda sink: Rule(mask=CAUSAL, normalizer=normalizers.Softmax(sink=sink)), (learned(HEADS, seed=6),)
    ),
    "sink in a window": Case(
        lambda sink: Rule(mask=WINDOW, normalizer=normalizers.Softmax(sink=sink)), (learned(HEADS, seed=7),)
    ),
    "sink and alibi": Case(
        lambda sink: Rule(
            mask=SINKS & CAUSAL, scores=(scores.Alibi(HEADS),), normalizer=normalizers.Softmax(sink=sink)
        ),
        (learned(HEADS, seed=8),),
    ),
    "sink over lengths": Case(
        lambda sink: Rule(mask=MASKS["lengths"], normalizer=normalizers.Softmax(sink=sink)),
        (learned(HEADS, seed=9),),
    ),
    "one more in the denominator": Case(of(MASKS["window or first"], normalizer=normalizers.SoftmaxOne())),
    "sigmoid": Case(of(WINDOW, normalizer=normalizers.Sigmoid())),
    "sparsemax": Case(of(WINDOW, normalizer=normalizers.Sparsemax())),
    "entmax": Case(of(MASKS["window or first"], normalizer=normalizers.Entmax15())),
    "top k": Case(of(normalizer=normalizers.TopK(5))),
    "grouped heads": Case(of(), kv_heads=2),
    "grouped heads in a window": Case(of(WINDOW), kv_heads=3),
    "one kv head over lengths": Case(of(MASKS["lengths"]), kv_heads=1),
    "grouped heads and alibi": Case(of(WINDOW, scores=(scores.Alibi(HEADS),)), kv_heads=2),
    "grouped heads and a soft cap": Case(of(WINDOW, scores=(scores.SoftCap(5.0),)), kv_heads=2),
    "grouped heads and a sink": Case(
        lambda sink: Rule(mask=WINDOW, normalizer=normalizers.Softmax(sink=sink)),
        (learned(HEADS, seed=10),),
        kv_heads=2,
    ),
    "from the start": Case(of(), q_start=0),
    "in the middle": Case(of(WINDOW), q_start=31),
    "before the start": Case(of(WINDOW), q_start=-40),
    "past the end": Case(of(masks.window(250)), q_start=KV_LEN + 7),
    "documents past the end": Case(of(MASKS["documents"]), q_start=KV_LEN - 60),
    "first keys in the middle": Case(of(CAUSAL & SINKS), q_start=11),
}


def outcome(case: Case, tensors: list[Tensor], dtype: torch.dtype, backend: str | None) -> dict[str, Tensor]:
    """The context and every gradient, in float64."""
    leaves = [tensor.detach().to(dtype).requires_grad_() for tensor in tensors]
    own = [tensor.detach().to(dtype).requires_grad_() for tensor in case.learned]
    context = case.make(*own)(*leaves, q_start=case.q_start, backend=backend)
    probe = torch.randn(context.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    context.backward(probe.to(dtype))
    named = dict(zip(("query", "key", "value"), leaves, strict=True))
    named |= {f"learned {index}": tensor for index, tensor in enumerate(own)}
    gradients = {f"gradient of {name}": leaf.grad.double() for name, leaf in named.items()}
    return {"context": context.detach().double()} | gradients


def assert_within_budget(case: Case, dtype: torch.dtype, backend: str | None) -> None:
    tensors = inputs(q_len=Q_LEN, kv_len=KV_LEN, heads=HEADS, kv_heads=case.kv_heads, dtype=dtype)
    exact = outcome(case, tensors, torch.float64, "eager")
    plain = outcome(case, tensors, dtype, "eager")
    found = outcome(case, tensors, dtype, backend)
    for name, truth in exact.items():
        floor = torch.finfo(dtype).eps * truth.abs().max().item()
        budget = FACTOR[dtype] * max((plain[name] - truth).abs().max().item(), floor)
        error = (found[name] - truth).abs().max().item()
        assert error <= budget, f"{name}: {error:.2e} over {budget:.2e}"


# sdpa runs what softmax and biases can say
REFUSED_BY_SDPA = {
    name for name in CASES if any(word in name for word in ("cap", "reader", "sink", "denominator"))
} | {"sigmoid", "sparsemax", "entmax", "top k"}
ACCEPTED = [(name, "tiled") for name in CASES]
ACCEPTED += [(name, "sdpa") for name in CASES if name not in REFUSED_BY_SDPA]
# rules that never read ahead, so that a token's context is settled as soon as it is there
AHEAD = (
    "full",
    "ahead",
    "both ways",
    "prefix mask",
    "blocks mask",
    "empty sample",
    "same for all heads",
    "past",
)
DECODABLE = [
    name
    for name, case in CASES.items()
    if case.q_start is None and name != "random blocks" and not any(word in name for word in AHEAD)
]


@pytest.mark.parametrize(("name", "backend"), ACCEPTED)
def test_a_backend_that_accepts_a_rule_agrees_with_its_meaning(name, backend):
    assert_within_budget(CASES[name], torch.float32, backend)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_tiled_agrees_in_half_precision(name, dtype):
    assert_within_budget(CASES[name], dtype, "tiled")


@pytest.mark.parametrize("name", sorted(REFUSED_BY_SDPA))
def test_sdpa_refuses_what_it_cannot_say(name):
    case = CASES[name]
    with pytest.raises(BackendError):
        outcome(case, inputs(heads=HEADS, kv_heads=case.kv_heads), torch.float32, "sdpa")


@pytest.mark.parametrize("name", CASES)
def test_the_automatic_choice_agrees_with_the_meaning(name):
    assert_within_budget(CASES[name], torch.float32, None)


@pytest.mark.parametrize("backend", ["eager", "tiled", None])
@pytest.mark.parametrize("name", DECODABLE)
def test_token_by_token_in_chunks_and_at_once_are_one(name, backend):
    case, length = CASES[name], 40
    rule = case.make(*case.learned)
    query, key, value = inputs(
        q_len=length, kv_len=length, heads=HEADS, kv_heads=case.kv_heads, dtype=torch.float64
    )
    whole = rule(query, key, value, backend="eager")
    for sizes in ([1] * length, [17, 1, 22]):
        ends = torch.tensor(sizes).cumsum(0).tolist()
        parts = [
            rule(query[..., end - size : end, :], key[..., :end, :], value[..., :end, :], backend=backend)
            for size, end in zip(sizes, ends, strict=True)
        ]
        torch.testing.assert_close(torch.cat(parts, dim=-2), whole, rtol=1e-9, atol=1e-9)


# on a CPU flex computes what softmax can say, without a sink, and has no backward pass
REFUSED_BY_FLEX = {
    name
    for name, case in CASES.items()
    if any(word in name for word in ("sink", "denominator", "sigmoid", "sparsemax", "entmax", "top k"))
}


ACCEPTED_BY_FLEX = [name for name in CASES if name not in REFUSED_BY_FLEX]


def assert_forward_within_budget(case: Case, run: Callable[[Rule, list[Tensor], int | None], Tensor]) -> None:
    tensors = inputs(q_len=Q_LEN, kv_len=KV_LEN, heads=HEADS, kv_heads=case.kv_heads)
    answers = []
    for dtype, attend in (
        (torch.float64, by_eager),
        (torch.float32, by_eager),
        (torch.float32, run),
    ):
        rule = case.make(*(own.to(dtype) for own in case.learned))
        with torch.no_grad():
            answers.append(attend(rule, [side.to(dtype) for side in tensors], case.q_start).double())
    exact, plain, found = answers
    budget = FACTOR[torch.float32] * (plain - exact).abs().max().item()
    assert budget > 0
    assert (found - exact).abs().max().item() <= budget


def by_eager(rule: Rule, tensors: list[Tensor], q_start: int | None) -> Tensor:
    return rule(*tensors, q_start=q_start, backend="eager")


def by_flex(rule: Rule, tensors: list[Tensor], q_start: int | None) -> Tensor:
    return rule(*tensors, q_start=q_start, backend="flex")


def by_flex_uncompiled(rule: Rule, tensors: list[Tensor], q_start: int | None) -> Tensor:
    asked = rule._request(*tensors, q_start, False)
    return kernels.attend(*flex._prepared(asked)[1])


@pytest.mark.compiled  # the hook cannot see through FlexAttention's own vmap
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("name", ACCEPTED_BY_FLEX)
def test_flex_before_it_is_compiled_agrees_with_the_meaning(name):
    assert_forward_within_budget(CASES[name], by_flex_uncompiled)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, of its compiler
@pytest.mark.parametrize("name", ACCEPTED_BY_FLEX)
def test_flex_agrees_with_the_meaning(name):
    assert_forward_within_budget(CASES[name], by_flex)


@pytest.mark.parametrize("name", sorted(REFUSED_BY_FLEX))
def test_flex_refuses_what_it_cannot_say(name):
    case = CASES[name]
    with pytest.raises(BackendError), torch.no_grad():
        case.make(*case.learned)(
            *inputs(heads=HEADS, kv_heads=case.kv_heads), q_start=case.q_start, backend="flex"
        )


def test_the_matrix_is_large():
    assert len(CASES) >= 40
