"""Precision: a target in float32, bfloat16 and float16 errs no more than its formula must.

    allowed = 3 * max(what inputs and parameters rounded once more move, in float64; what attnkit's own layer errs)

The reference is the same rounded module in float64, so that rounding the parameters is nobody's fault. What is compared
is the median of all outputs: rounding may turn a hard choice of keys, which moves a few outputs by much.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from attnkit.conformance.case import Case, Check
from attnkit.conformance.findings import Finding
from attnkit.conformance.relations.reads import MILD, apart
from attnkit.conformance.relations.watching import Sizing
from attnkit.conformance.subject import Subject
from attnkit.layers.attention import Attention

FACTOR = 3.0  # right targets need up to 1.5: tests/conformance/test_precision.py measures it
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LARGEST = torch.finfo(torch.float16).max
SIZES = (1e2, 1e4)
# of float64, by a step so small that its square is less: float32 inside leaves 1e-6, half precision 1e-4 and more
STEP, JUMP, TRIES = 1e-4, 2e-5, 5


def _inputs(case: Case, *, size: float = 1.0) -> tuple[Tensor, Tensor | None]:
    memory = case.memory(seed=30)
    return size * case.tokens(seed=30), None if memory is None else size * memory


def run_smooth(case: Case) -> Iterator[Finding]:
    """In float64, a small step forth and the same back cancel, as they do on any smooth curve."""
    x, memory = _inputs(case, size=1 / 3)
    case.need(case.off(_called(case, x, memory), _called(case, x, memory)) == 0, "equal calls differ")
    middle, jumps = _called(case, x, memory), []
    for seed in range(TRIES):
        step, other = (None if one is None else STEP * _noise(one, case, 70 + seed) for one in (x, memory))
        assert step is not None  # for the type checker
        forth = _called(case, x + step, None if memory is None or other is None else memory + other)
        back = _called(case, x - step, None if memory is None or other is None else memory - other)
        jumps.append(case.off((forth + back) / 2, middle))
    smallest = sorted(jumps)[1]  # a hard choice may jump in some
    if smallest > JUMP:
        sentence = (
            f"in float64, steps of {STEP:g} make outputs jump by {smallest:.2g} of their size: "
            "numbers pass through a type of half precision inside"
        )
        yield Finding("smooth", "low-precision", sentence, smallest, JUMP)


def _called(case: Case, x: Tensor, memory: Tensor | None) -> Tensor:
    return case.subject(x, memory=memory)


def _noise(tensor: Tensor, case: Case, seed: int) -> Tensor:
    return torch.randn(tensor.shape, generator=case.generator(seed), dtype=torch.float64)


def run_large(case: Case) -> Iterator[Finding]:
    """Tokens that are 100 and 10,000 times as large give finite outputs in float64 and float32."""
    for dtype in (torch.float64, torch.float32):
        subject = case.untouched.copied(dtype=dtype)
        for size in SIZES:
            x, memory = _inputs(case, size=size)
            found = _tried(subject, x.to(dtype), None if memory is None else memory.to(dtype))
            if isinstance(found, Tensor) and not found.isfinite().all():
                bad = int((~found.isfinite()).sum())
                sentence = (
                    f"{bad} of {found.numel()} numbers are not finite in {_name(dtype)} once tokens are "
                    f"{size:g} times as large: the largest score is not subtracted before exp"
                )
                yield Finding("large", "low-precision", sentence, float(bad), data={"size": size})
                return


def _tried(
    subject: Subject, x: Tensor, memory: Tensor | None, keep: Tensor | None = None
) -> Tensor | Exception:
    try:
        with torch.no_grad():
            return subject(x, memory=memory, keep=keep)
    except Exception as trouble:  # whatever the target raises
        return trouble


def typical(found: Tensor, wanted: Tensor) -> float:
    """How far outputs (batch, len, d_out) are off, each as a part of the largest of all: the median."""
    return apart(wanted.double(), found.double()).median().item()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def run_half(case: Case) -> Iterator[Finding]:
    """Outputs in float32, bfloat16 and float16 against float64, with and without a mask of keys."""
    x, memory = _inputs(case)
    case.need(case.off(_called(case, x, memory), _called(case, x, memory)) == 0, "equal calls differ")
    refused = []
    for dtype in DTYPES:
        for masked in (False, True) if case.subject.takes_keep else (False,):
            found = _compared(case, dtype, masked=masked)
            if isinstance(found, Finding):
                yield found
                return
            refused += [found] if found else []
    case.need(not refused, "; ".join(dict.fromkeys(refused)))


def _compared(case: Case, dtype: torch.dtype, *, masked: bool, size: float = 1.0) -> Finding | str:
    """A finding; or why there is none, "" where it is right."""
    low = case.untouched.copied(dtype=dtype)
    x, memory = (None if one is None else one.to(dtype) for one in _inputs(case, size=size))
    assert x is not None  # for the type checker
    keep = _mask(x if memory is None else memory) if masked else None
    made = _tried(low, x, memory, keep)
    with_mask = " with a mask of keys" if masked else ""
    if isinstance(made, Exception):
        if "without overflow" not in str(made):
            return f"it raises {type(made).__name__} in {_name(dtype)}"
        sentence = f"it raises in {_name(dtype)}{with_mask}: {str(made).splitlines()[0][:90]}"
        return Finding("half", "low-precision", sentence, float("inf"), path=_name(dtype))
    reference = replace(low, module=copy.deepcopy(low.module).double())
    double = x.double(), None if memory is None else memory.double(), keep
    with Sizing() as sizing, torch.no_grad():
        wanted = reference(*double)
    if not made.isfinite().all():
        if not wanted.isfinite().all() or (dtype == torch.float16 and sizing.largest > LARGEST):
            return f"numbers of {sizing.largest:.2g} are too large for {_name(dtype)}"
        times = f", once tokens are {size:g} times as large," if size != 1 else ""
        sentence = (
            f"{int((~made.isfinite()).sum())} of {made.numel()} numbers are not finite in {_name(dtype)}"
            f"{with_mask}{times} and in float64 none is larger than {sizing.largest:.2g}"
        )
        return Finding("half", "low-precision", sentence, float("inf"), path=_name(dtype))
    off, must = typical(made, wanted), explained(case, reference, double, dtype)
    if off <= FACTOR * must:
        return ""
    sentence = (
        f"in {_name(dtype)}{with_mask} outputs are {off:.2g} of their size off those in float64; "
        f"rounding explains {must:.1g}"
    )
    return Finding("half", "low-precision", sentence, off, FACTOR * must, path=_name(dtype))


def _mask(tokens: Tensor) -> Tensor:
    keep = torch.ones(tokens.shape[:2], dtype=torch.bool)
    keep[0, -2:] = False
    keep[1, -1] = False
    return keep


def explained(
    case: Case, reference: Subject, given: tuple[Tensor, Tensor | None, Tensor | None], dtype: torch.dtype
) -> float:
    """How far outputs are off by rounding alone, as a part of their size.

    Args:
        case: the run.
        reference: the target in float64.
        given: tokens, memory and mask in float64.
        dtype: whose rounding.
    """
    x, memory, keep = given
    eps = torch.finfo(dtype).eps / 2
    found = [_own_error(case, dtype), eps]
    with torch.no_grad():
        plain = reference(x, memory, keep)
        for seed in range(3):
            moved = replace(reference, module=copy.deepcopy(reference.module))
            for parameter in moved.module.parameters():
                parameter.mul_(1 + eps * _noise(parameter, case, 80 + seed))
            tokens = [
                None if one is None else one * (1 + eps * _noise(one, case, 85 + seed)) for one in (x, memory)
            ]
            found.append(typical(moved(tokens[0], tokens[1], keep), plain))  # pyright: ignore[reportArgumentType]
    return max(found)


def _own_error(case: Case, dtype: torch.dtype) -> float:
    """What attnkit's own layer of these sizes errs with these tokens."""
    heads = case.declared.num_heads or 1
    d_in = case.subject.d_in
    if d_in % heads:
        return 0.0
    name = "causal" if case.declared.causal else "full"
    torch.manual_seed(case.declared.seed)
    low = Attention(d_in, heads, mechanism=name).to(dtype)
    x = case.tokens(seed=30).to(dtype)
    with torch.no_grad():
        return typical(low(x), copy.deepcopy(low).double()(x.double()))


def run_overflow(case: Case) -> Iterator[Finding]:
    """Tokens 10 and 30 times as large in float16, where no number of the formula is too large."""
    x, memory = _inputs(case)
    case.need(case.off(_called(case, x, memory), _called(case, x, memory)) == 0, "equal calls differ")
    for size in (10.0, 30.0):
        found = _compared(case, torch.float16, masked=False, size=size)
        if isinstance(found, Finding) and found.measured == float("inf"):
            yield replace(found, check="overflow")
            return


def run_autocast(case: Case) -> Iterator[Finding]:
    """A float32 module under autocast to bfloat16."""
    x, memory = (None if one is None else one.float() for one in _inputs(case, size=10 * MILD / 3))
    assert x is not None  # for the type checker
    subject = case.untouched.copied(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = _tried(subject, x, memory)
    case.need(isinstance(made, Tensor), f"it raises {type(made).__name__} under autocast")
    assert isinstance(made, Tensor)  # for the type checker
    reference = replace(subject, module=copy.deepcopy(subject.module).double())
    given = x.double(), None if memory is None else memory.double(), None
    with torch.no_grad():
        wanted = reference(*given)
    again = _tried(case.untouched.copied(dtype=torch.float32), x, memory)
    case.need(
        isinstance(again, Tensor) and case.off(again.double(), wanted) < JUMP * 50, "float32 differs already"
    )
    off, must = typical(made, wanted), explained(case, reference, given, torch.bfloat16)
    if not off <= FACTOR * must:
        sentence = f"under autocast outputs are {off:.2g} of their size off; bfloat16 explains {must:.1g}"
        yield Finding("autocast", "low-precision", sentence, off, FACTOR * must, path="autocast")


CHECKS = (
    Check("smooth", "basic", run_smooth, "in float64, outputs change smoothly with their tokens"),
    Check("large", "basic", run_large, "large tokens give finite outputs"),
    Check("half", "basic", run_half, "float32, bfloat16 and float16 err no more than rounding explains"),
    Check("overflow", "full", run_overflow, "float16 overflows only where the formula itself does"),
    Check("autocast", "full", run_autocast, "autocast errs no more than bfloat16 explains"),
)
