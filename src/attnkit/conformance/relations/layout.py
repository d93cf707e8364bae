"""Strides and sizes: what holds for tidy inputs of 7 tokens holds for others, too.

A length is right where equal tokens give what one gives, where the last token is read by others, and where later tokens
change nothing that came before. Each is asked of a length only if it holds at some other length.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from attnkit.conformance.case import LENGTH, ROUNDING, Case, Check
from attnkit.conformance.claims import normalised
from attnkit.conformance.declared import LEVELS
from attnkit.conformance.findings import Finding
from attnkit.conformance.relations.reads import MILD, Source, apart, attempted
from attnkit.conformance.relations.watching import Poisoned
from attnkit.conformance.subject import Subject

LENGTHS = {"basic": (8, 9, 17, 33), "full": (15, 16, 31, 32, 63, 64, 65), "strict": (127, 128, 129)}
SHORT = (1, 2, 3, 5)
COARSE = 0.02  # weights of half precision sum to 1 as well as this; a lost block is more
MANY = 8  # samples, so that a hard choice of keys falls on each token in some


def _spread(tokens: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The same tokens with other strides."""
    batch, length, width = tokens.shape
    yield "(len, batch, d_in) transposed", tokens.transpose(0, 1).contiguous().transpose(0, 1)
    yield "d_in before len, transposed", tokens.mT.contiguous().mT
    wide = torch.full((batch, length, 2 * width), 1e3, dtype=tokens.dtype)
    wide[..., ::2] = tokens
    yield "every second number of a wider tensor", wide[..., ::2]
    long = torch.full((batch, length + 3, width), 1e3, dtype=tokens.dtype)
    long[:, 3:] = tokens
    yield "the last tokens of a longer text", long[:, 3:]


def run_strides(case: Case) -> Iterator[Finding]:
    """Inputs that are not contiguous, and samples that share memory."""
    x, memory = case.tokens(), case.memory()
    plain = case.subject(x, memory=memory)
    case.need(case.off(case.subject(x, memory=memory), plain) <= ROUNDING, "equal calls differ")
    for told, spread in _spread(x):
        read = memory if memory is None else dict(_spread(memory))[told]
        found = _strided(case, told, spread, read, plain)
        if found is not None:
            yield found
            return
    one, read = x[:1], None if memory is None else memory[:1]
    wanted = case.subject(one.repeat(3, 1, 1), memory=None if read is None else read.repeat(3, 1, 1))
    wide = None if read is None else read.expand(3, -1, -1)
    found = _strided(case, "one sample, expanded", one.expand(3, -1, -1), wide, wanted)
    if found is not None:
        yield found


def _strided(case: Case, told: str, x: Tensor, memory: Tensor | None, wanted: Tensor) -> Finding | None:
    try:
        off = case.off(case.subject(x, memory=memory), wanted)
    except Exception as trouble:  # whatever the target raises
        if case.declared.level != "strict":  # it is said aloud, so that nobody is misled
            return None
        reason = f"{type(trouble).__name__}: {str(trouble).splitlines()[0][:90]}" if str(trouble) else ""
        sentence = f"it raises for tokens that are {told} ({reason}), and not for the same in order"
        return Finding("strides", "layout", sentence, float("inf"), ROUNDING)
    if off <= ROUNDING:
        return None
    sentence = f"tokens that are {told} give {off:.2g} of the output's size else than the same in order"
    return Finding("strides", "layout", sentence, off, ROUNDING)


def run_unwritten(case: Case) -> Iterator[Finding]:
    """Outputs where memory that nobody has written holds one number, and another."""
    for length in (LENGTH, 8, 1):
        x, memory, found = case.tokens(length=length), case.memory(), list[Tensor | None]()
        for value in (1.0, 1.0, 1000.0):
            with Poisoned(value):
                found.append(attempted(case.subject, x, memory=memory))
        one, again, other = found
        if one is None or again is None or other is None or case.off(again, one) > 0:
            continue
        bad = one != other
        if bad.any() and case.off(other, one) > ROUNDING:
            sentence = (
                f"{int(bad.sum())} of {bad.numel()} numbers of {length} tokens come from memory never written"
            )
            yield Finding("unwritten", "layout", sentence, float(bad.sum()))
            return


def _lengths(case: Case) -> list[int]:
    level = LEVELS.index(case.declared.level)
    return sorted(length for name in LEVELS[: level + 1] for length in LENGTHS[name])


def run_lengths(case: Case) -> Iterator[Finding]:
    """What is right at 7 tokens is right at other lengths."""
    source = Source(case, case.declared.cross)
    source.need_steady()
    lengths = [LENGTH, *_lengths(case)]
    for claim, told in (
        (_constant, "equal tokens do not give what one of them gives"),
        (_reads_last, "no other output reads the last token"),
        (_reads_past, "what comes before depends on how many tokens follow"),
    ):
        if claim is _constant and not normalised(case):
            continue
        found = {length: claim(source, length) for length in lengths}
        wrong = [length for length, right in found.items() if right is False]
        right = [length for length, right in found.items() if right]
        if not wrong or not right:
            continue
        fault = "shape-assumption" if min(wrong) > max(right) and 64 in wrong else "layout"
        sentence = f"with {_listed(wrong)} tokens {told}, with {_listed(right)} it is right"
        yield Finding("lengths", fault, sentence, float(len(wrong)), data={"wrong": wrong, "right": right})
        return


def _listed(lengths: Sequence[int]) -> str:
    return ", ".join(str(length) for length in lengths[:6])


def _output(source: Source, keys: Tensor) -> Tensor | None:
    """The output (batch, len, d_out); None where the target refuses it, or gives something else."""
    found = attempted(source, keys)
    return found if found is not None and found.dim() == 3 and len(found) == len(keys) else None


def _constant(source: Source, length: int) -> bool | None:
    """Whether equal tokens give what one of them gives."""
    token = source.keys(2, 1, seed=90)
    one, many = (_output(source, token.expand(-1, size, -1).contiguous()) for size in (1, length))
    if one is None or many is None or one.shape[-1] != many.shape[-1]:
        return None
    return bool((apart(one[:, -1:].expand_as(many[:, -1:]), many[:, -1:]) <= COARSE).all())


def _reads_last(source: Source, length: int) -> bool | None:
    """Whether somebody else reads the last token, where the last output reads others; causal targets do not."""
    if source.case.declared.causal or source.case.facts.get("causal"):
        return None
    keys = MILD * source.keys(MANY, length, seed=91)
    other = MILD * source.keys(MANY, length, seed=92)
    base = _output(source, keys)
    if base is None:
        return None
    far = apart(base, source(torch.cat([keys[:, :-1], other[:, -1:]], 1)))
    if (far if source.memory else far[:, :-1]).max() > ROUNDING:
        return True
    if not source.memory and _own_alone(source, keys, other, base):
        return None  # a block of its own
    return _tilts(source, keys)


def _own_alone(source: Source, keys: Tensor, other: Tensor, base: Tensor) -> bool:
    changed = torch.cat([other[:, :-1], keys[:, -1:]], 1)
    return bool((apart(base, source(changed))[:, -1] <= ROUNDING).all())


def _tilts(source: Source, keys: Tensor) -> bool:
    """Whether any other output has a gradient by the last token, where a step is too small to tell."""
    keys = keys.clone().requires_grad_()
    with torch.enable_grad():
        output = source(keys)
        output = output if source.memory else output[:, :-1]
        if not output.requires_grad:
            return False
        probe = torch.randn(output.shape, generator=source.case.generator(94), dtype=torch.float64)
        (found,) = torch.autograd.grad((output * probe).sum(), keys)
    return bool((found[:, -1] != 0).any())


def _reads_past(source: Source, length: int) -> bool | None:
    """Whether the outputs of a causal text are those of the start of a longer one."""
    if not source.case.declared.causal or source.memory:
        return None
    keys = source.keys(2, length + 6, seed=93)
    short, long = _output(source, keys[:, :length]), _output(source, keys)
    if short is None or long is None:
        return None
    return bool((apart(short, long[:, :length]) <= ROUNDING).all())


def run_sizes(case: Case) -> Iterator[Finding]:
    """Few tokens, few samples, one query: the shape that they should have, and no error."""
    width = case.subject(case.tokens(), memory=case.memory()).shape[-1]
    lengths = {(3, length): _trouble(case, 3, length, width) for length in SHORT}
    if all("raises" in trouble for trouble in lengths.values()):
        lengths = {}  # made for one length, and it says so
    batches = [(batch, LENGTH) for batch in (1, 2, 5)] + ([(1, 1)] if lengths else [])
    if case.declared.level == "strict":  # many refuse them aloud
        batches += [(0, LENGTH), (3, 0)]
    found = lengths | {size: _trouble(case, *size, width) for size in batches} | _after(case, width)
    for (batch, length), trouble in found.items():
        if trouble:
            sentence = f"for {batch} samples of {length} tokens it {trouble}; 3 samples of {LENGTH} pass"
            yield Finding("sizes", "shape-assumption", sentence, data={"batch": batch, "length": length})
            return
    yield from _masked_sizes(case)


def _after(case: Case, width: int) -> dict[tuple[int, int], str]:
    """What is wrong with a call after one of another length, where it is right as the first."""
    subject = case.untouched.copied()
    first = _trouble(case, 2, 3, width)
    subject(case.tokens(), memory=case.memory())
    return {} if first else {(2, 3): _trouble(case, 2, 3, width, subject)}


def _trouble(case: Case, batch: int, length: int, width: int, subject: Subject | None = None) -> str:
    """What is wrong with a call of these sizes, the first of a copy unless a subject is given; "" for nothing."""
    called = subject or case.untouched.copied()
    x = case.tokens(batch, length) if batch and length else torch.zeros(batch, length, called.d_in).double()
    memory = case.memory(max(batch, 1))
    read = None if memory is None else memory[:batch]
    return _said(lambda: called(x, memory=read), (batch, length, width))


def _said(call: Callable[[], Tensor], wanted: tuple[int, ...]) -> str:
    """What is wrong with a call, in words; "" where nothing is."""
    try:
        output = call()
    except Exception as trouble:  # whatever the target raises
        return f"raises {type(trouble).__name__}: {str(trouble).strip().splitlines()[0][:90] if str(trouble) else ''}"
    if tuple(output.shape) != wanted:
        return f"gives {tuple(output.shape)}, no {wanted}"
    return "" if output.isfinite().all() else "gives numbers that are not finite"


def _masked_sizes(case: Case) -> Iterator[Finding]:
    """A mask of a memory that is as long as the text, and one that is not."""
    if not case.declared.cross or not case.subject.takes_keep:
        return
    troubles = {}
    for kv_len in (LENGTH, 5):
        keep = torch.ones(3, kv_len, dtype=torch.bool)
        keep[1, -1] = False
        x, memory = case.tokens(), case.memory(3, kv_len)
        width = case.subject(x, memory=memory).shape[-1]
        troubles[kv_len] = _said(lambda: case.subject(x, memory=memory, keep=keep), (3, LENGTH, width))  # noqa: B023
    if troubles[5] and not troubles[LENGTH]:
        sentence = f"with a mask of a memory of 5 tokens it {troubles[5]}; with one of {LENGTH} it does not"
        yield Finding("sizes", "shape-assumption", sentence)


CHECKS = (
    Check("strides", "basic", run_strides, "tokens may lie in memory in any order, and share it"),
    Check("unwritten", "basic", run_unwritten, "no memory is read that was not written"),
    Check("sizes", "basic", run_sizes, "a batch of one and a text of one token are no exception"),
    Check("lengths", "basic", run_lengths, "no length is special, such as those that fill whole blocks"),
)
