"""Decoding in chunks gives what the full pass gives, however the chunks are cut, and nothing of an earlier text.

    [1] * 7    [3, 1, 3]    [4, 3]        7 tokens each; a mask of keys is given for all tokens so far

Where a chunk differs, who reads whom tells why: a table like that of the full pass, made of chunks.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from attnkit.conformance.case import BATCH, LENGTH, ROUNDING, Case, Check
from attnkit.conformance.findings import Finding
from attnkit.conformance.relations.reads import apart, attempted
from attnkit.conformance.subject import Subject

CHUNKS = ((7,), (1,) * 7, (3, 1, 3), (4, 3), (1, 6), (2, 2, 2, 1))
UNUSED = 5  # samples: a batch that no other check gives


@dataclass(frozen=True)
class Decoded:
    """A text that was decoded in chunks.

    Attributes:
        chunks: tokens of each chunk.
        x: the tokens.
        keep: a mask of keys; None for none.
        grad: whether gradients were recorded.
        output: of all chunks.
    """

    chunks: tuple[int, ...]
    x: Tensor
    keep: Tensor | None
    grad: bool
    output: Tensor

    @property
    def told(self) -> str:
        """The chunks in words."""
        return "chunks of " + ", ".join(str(size) for size in self.chunks) + " tokens"


def decoded(subject: Subject, x: Tensor, chunks: Sequence[int], keep: Tensor | None = None) -> Tensor:
    """The outputs of all chunks, by a cache that is empty at first."""
    cache: dict[str, Any] = {}
    outputs, end = [], 0
    for size in chunks:
        end += size
        given = None if keep is None else keep[:, :end].contiguous()
        output, cache = subject.chunk(x[:, end - size : end].contiguous(), cache, given)
        outputs.append(output)
    return torch.cat(outputs, 1)


def run_decoding(case: Case) -> Iterator[Finding]:
    """Each way to cut a text, with and without gradients, then with padding."""
    case.need(case.subject.takes_cache, "it takes no cache")
    found = _stale(case)
    if found is None:
        found = _differs(case, None)
    if found is None and case.subject.takes_keep:
        found = _differs(case, _keep())
    if found is not None:
        yield found


def _keep() -> Tensor:
    keep = torch.ones(BATCH, LENGTH, dtype=torch.bool)
    keep[0, 2], keep[1, :2], keep[2, 4] = False, False, False
    return keep


def _stale(case: Case) -> Finding | None:
    """A second text after a first, against the same after another first."""
    x = case.tokens(UNUSED, seed=1)
    for chunks in ((4, 3), (1,) * LENGTH):
        if attempted(decoded, case.untouched.copied(), x, chunks) is None:
            continue
        outputs = []
        for seed in (2, 3):
            subject = case.untouched.copied()
            decoded(subject, case.tokens(UNUSED, seed=seed), chunks)
            outputs.append(decoded(subject, x, chunks))
        first = decoded(case.untouched.copied(), x, chunks)
        off = max(case.off(outputs[0], outputs[1]), case.off(outputs[0], first))
        if off > ROUNDING and case.off(decoded(case.untouched.copied(), x, chunks), first) == 0:
            sentence = (
                f"a text with an empty cache moves by {off:.2g} of its size with the text decoded before"
            )
            return Finding("decoding", "cache-stale", sentence, off, ROUNDING)
    return None


def _differs(case: Case, keep: Tensor | None) -> Finding | None:
    """The first way to cut a text that gives something else than the full pass."""
    x, subject = case.tokens(), case.untouched.copied()
    full = attempted(subject, x, keep=keep)
    again = attempted(subject, x, keep=keep)
    if full is None or again is None or case.off(again, full) > ROUNDING:
        case.need(keep is not None, "equal calls differ")
        return None
    rows = torch.ones(BATCH, LENGTH, dtype=torch.bool) if keep is None else keep & full.isfinite().all(-1)
    refused = 0
    for chunks in CHUNKS:
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                output = attempted(decoded, case.untouched.copied(), x, chunks, keep)
            if output is None:  # some take one token at a time, and some no mask with a cache
                refused += grad
                continue
            far = apart(full.detach(), output.detach()).where(rows, 0)
            if far.max() > ROUNDING:
                made = Decoded(chunks, x, keep, grad, output.detach())
                return _finding(case, made, full.detach(), far)
    case.need(keep is not None or refused < len(CHUNKS), "it refuses a cache, however a text is cut")
    return None


def _finding(case: Case, made: Decoded, full: Tensor, far: Tensor) -> Finding:
    sample, place = divmod(int(far.argmax()), LENGTH)
    off = far.max().item()
    fault, why = (
        ("cache-mismatch", ", with a mask of keys and not without") if made.keep is not None else ("", "")
    )
    if not fault:
        fault, why = _why(case, made, full)
    path = "" if made.keep is None else "a mask of keys"
    if not made.grad:
        path = "evaluation without gradients"  # with them, these chunks are right
    sentence = (
        f"in {made.told}, output {place} of sample {sample} is {off:.2g} of its size off the full pass"
        f"{f', in {path},' if not made.grad else ''}{why}"
    )
    return Finding("decoding", fault, sentence, off, ROUNDING, path=path, data={"chunks": made.chunks})


def _why(case: Case, made: Decoded, full: Tensor) -> tuple[str, str]:
    """The fault behind chunks that differ, and words that tell it."""
    if made.chunks == (LENGTH,):
        return "cache-stale", ": with an empty cache it is already another"
    if _mixed(case, made):
        return "cache-mismatch", ": samples read what was cached of others"
    read, wanted = (_read(case, made.chunks, call) for call in (decoded, _full))
    if not torch.equal(read, wanted):
        return _why_reads(case, made.chunks, read, wanted)
    return _why_numbers(case, made, full)


def _full(subject: Subject, x: Tensor, chunks: Sequence[int]) -> Tensor:
    return subject(x)


def _mixed(case: Case, made: Decoded) -> bool:
    """Whether a sample's output moves with the tokens of another."""
    other = made.x.clone()
    other[1:] = case.tokens(seed=4)[1:]
    after = decoded(case.untouched.copied(), other, made.chunks)
    return bool((apart(made.output, after)[0] > ROUNDING).any())


def _read(
    case: Case, chunks: Sequence[int], call: Callable[[Subject, Tensor, Sequence[int]], Tensor]
) -> Tensor:
    """Who reads whom, (len, len), in chunks or at once."""
    found = torch.zeros(LENGTH, LENGTH, dtype=torch.bool)
    for seed in (5, 6):
        x, other = (case.tokens(seed=one) / 3 for one in (seed, seed + 10))
        base = call(case.untouched.copied(), x, chunks)
        for s in range(LENGTH):
            changed = x.clone()
            changed[:, s] = other[:, s]
            after = call(case.untouched.copied(), changed, chunks)
            found[:, s] |= (apart(base, after) > ROUNDING).any(0)
    return found


def _why_reads(case: Case, chunks: tuple[int, ...], read: Tensor, wanted: Tensor) -> tuple[str, str]:
    t, s = (int(i) for i in (read != wanted).nonzero()[0])
    does = "reads" if read[t, s] else "does not read"
    example = (
        f": output {t} {does} token {s}, and in the full pass it {'does' if wanted[t, s] else 'does not'}"
    )
    if _at_the_first_key(chunks, read) and _at_the_first_key((4, 3), _read(case, (4, 3), decoded)):
        return "cache-causal-alignment", example + "; the first query of a chunk stands at the first key"
    window = case.declared.window or case.facts.get("window")
    if (read & ~wanted).triu(1).any():
        return "cache-mismatch", example + "; later tokens of a chunk are read"
    if window is not None:
        return "cache-window", f"{example}, with a window of {window}"
    return "cache-mismatch", example


def _at_the_first_key(chunks: tuple[int, ...], read: Tensor) -> bool:
    """Whether each reads, besides itself, as many keys from the first on as it has places in its chunk."""
    places = torch.arange(LENGTH)
    starts = torch.repeat_interleave(torch.tensor((0, *chunks)).cumsum(0)[:-1], torch.tensor(chunks))
    own = torch.eye(LENGTH, dtype=torch.bool)
    return torch.equal(read | own, (places[None, :] <= (places - starts)[:, None]) | own)


def _why_numbers(case: Case, made: Decoded, full: Tensor) -> tuple[str, str]:
    """Each reads what it should, by other weights or other values."""
    positions = case.declared.positions
    token = case.tokens(length=1, seed=7).expand(-1, LENGTH, -1).contiguous()
    chunked, whole = decoded(case.untouched.copied(), token, made.chunks), case.untouched.copied()(token)
    weighs = case.off(chunked, whole) <= ROUNDING  # equal values: weights do not matter
    if positions == "absolute" or (positions and weighs):
        return "position-offset", f": each reads what it should, at other {positions} positions"
    if weighs:
        return "cache-mismatch", ": each reads what it should, by other weights"
    if case.off(made.output[:, : made.chunks[0]], full[:, : made.chunks[0]]) > ROUNDING:
        return "cache-stale", ": the first chunk is already another, before anything was cached"
    return "cache-mismatch", ": each reads what it should, and other values of it"


CHECKS = (
    Check(
        "decoding",
        "basic",
        run_decoding,
        "decoding in chunks gives what the full pass gives, and nothing of an earlier text",
    ),
)
