"""What was given as a reference gives the same, in float64: outputs, and gradients of tokens, memory and parameters.

    loss = sum of probe * output          over tokens that a mask keeps, the same probe for both

Outputs and gradients may differ by what tables in float32 make them differ, as everywhere; a gradient that is none but
for rounding, such as that of what a key adds, is no part of the largest one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnkit.conformance.case import LENGTH, ROUNDING, Case, Check
from attnkit.conformance.comparing import Compared, without_partner
from attnkit.conformance.findings import Finding
from attnkit.conformance.relations.influence import length_for
from attnkit.conformance.relations.projections import NONE
from attnkit.conformance.relations.reads import Source, apart, attempted
from attnkit.conformance.relations.walking import mask_for, right_padding
from attnkit.conformance.subject import Subject

LONG = 40  # a multiple of 8
MASKED = "a mask of keys"
MILD = 1 / 3  # of the tokens: where weights are peaked, hardly a gradient reaches query and key


@dataclass(frozen=True)
class Given:
    """One call of both.

    Attributes:
        x: tokens.
        memory: tokens of a memory.
        keep: a mask of keys.
        rows: the outputs (batch, q_len) that are compared.
    """

    x: Tensor
    memory: Tensor | None
    keep: Tensor | None
    rows: Tensor

    def output(self, subject: Subject, seed: int = 0) -> Tensor:
        """What a target or a reference gives."""
        torch.manual_seed(seed)
        return subject(self.x, memory=self.memory, keep=self.keep)


def run_reference(case: Case) -> Iterator[Finding]:
    """Peaked and mild tokens, few and many, and a memory as long as they are; without a mask."""
    compared: Compared = case.facts["reference"]
    first = _given(case, 1.0, 3, length_for(case), 5)
    yield from (found := _differences(case, compared, first))
    if found:
        return
    for size, batch, length, kv_len in ((MILD, 3, LENGTH, LENGTH), (MILD, 1, 4, 5), (MILD, 2, LONG, 6)):
        given = _given(case, size, batch, length, kv_len)
        copies = (case.untouched.copied(), compared.subject.copied())
        if any(attempted(given.output, one) is None for one in copies):
            continue  # one of them takes no such sizes, which other checks say
        yield from (found := _differences(case, compared, given))
        if found:
            return
    yield from _in_training(case, compared, first)


def _given(case: Case, size: float, batch: int, length: int, kv_len: int) -> Given:
    memory = case.memory(batch, kv_len, seed=81)
    x, rows = size * case.tokens(batch, length, seed=81), torch.ones(batch, length, dtype=torch.bool)
    return Given(x, None if memory is None else size * memory, None, rows)


def _in_training(case: Case, compared: Compared, given: Given, path: str = "") -> Iterator[Finding]:
    """Outputs in training, where neither draws anything."""
    outputs = []
    for subject in (case.untouched.copied(training=True), compared.subject.copied(training=True)):
        with torch.no_grad():
            one, two = (attempted(given.output, subject, seed) for seed in (0, 1))
        if one is None or two is None or not torch.equal(one.nan_to_num(), two.nan_to_num()):
            return
        outputs.append(one)
    one, wanted = outputs
    far = apart(wanted, one).where(given.rows, 0.0)
    if (far > ROUNDING).any():
        yield _Telling(case, compared, f"training{path}").by_token("the output in training", one, wanted, far)


def run_reference_padded(case: Case) -> Iterator[Finding]:
    """With a mask of keys: queries that are hidden give what they like.

    Outputs with padding at both ends; gradients with padding behind, where no query is left without a key: what these
    give, forward and backward, other checks say.
    """
    compared: Compared = case.facts["reference"]
    case.need(case.subject.takes_keep, "it takes no mask of keys")
    source = Source(case, case.declared.cross)
    given = mask_for(source, 3, LENGTH)
    case.need(given is not None, "it refuses a mask of keys (batch, kv_len)")
    assert given is not None
    keys, keep = given
    behind = right_padding(3, LENGTH)
    for size, samples, hidden in ((1.0, 3, keep), (1.0, 3, behind), (MILD, 3, behind), (1.0, 1, behind)):
        call = _padded(source, size * keys[:samples], hidden[:samples], size)
        takes = compared.subject.takes_keep and attempted(call.output, compared.subject.copied()) is not None
        case.need(takes, f"{compared.name} takes no mask of keys (batch, kv_len)")
        found = _differences(case, compared, call, path=MASKED, gradients=hidden is not keep)
        yield from found
        if found:
            return
    yield from _in_training(case, compared, _padded(source, keys, behind, 1.0), f", {MASKED}")


def _padded(source: Source, keys: Tensor, keep: Tensor, size: float) -> Given:
    if not source.memory:
        return Given(keys, None, keep, source.rows(keep))
    x = size * source.case.tokens(len(keys), 4, seed=82)
    return Given(x, keys, keep, torch.ones(len(keys), 4, dtype=torch.bool))


def _differences(
    case: Case, compared: Compared, given: Given, *, path: str = "", gradients: bool = True
) -> list[Finding]:
    """The first difference of outputs; of gradients where there is none; of no or one finding."""
    target, other = case.untouched.copied(), compared.subject.copied()
    with torch.no_grad():
        one, two, wanted = given.output(target), given.output(target), given.output(other)
    case.need(torch.equal(one.nan_to_num(), two.nan_to_num()), "equal calls differ")
    told = _Telling(case, compared, path)
    if one.shape != wanted.shape:
        return [told.shapes(one, wanted)]
    far = apart(wanted, one).where(given.rows, 0.0)
    if (far > ROUNDING).any():
        return [told.by_token("the output", one, wanted, far)]
    if not gradients:
        return []
    target, other = case.untouched.copied(), compared.subject.copied()
    probe = torch.randn(one.shape, generator=case.generator(83), dtype=torch.float64)
    found = _gradients(case, target, given, probe)
    right = _at_the_target(compared, _gradients(case, other, given, probe), found)
    return told.gradients(found, right)


def _gradients(case: Case, subject: Subject, given: Given, probe: Tensor) -> dict[str, Tensor]:
    """The gradient of each input and parameter, zeros where none arrives.

    Raises:
        Skip: autograd refuses.
    """
    leaves = {"the tokens": given.x.clone().requires_grad_()}
    if given.memory is not None:
        leaves["the memory"] = given.memory.clone().requires_grad_()
    own = subject.module.named_parameters()
    leaves |= {name: one.requires_grad_() for name, one in own if one.is_floating_point()}
    call = replace(given, x=leaves["the tokens"], memory=leaves.get("the memory"))
    with torch.enable_grad():
        output = call.output(subject)
        loss = (output * probe)[given.rows].sum()
        if not loss.requires_grad:
            return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
        try:
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        except RuntimeError as trouble:
            case.need(False, f"autograd refuses: {str(trouble).splitlines()[0][:90]}")
            raise
    pairs = zip(leaves.items(), found, strict=True)
    return {name: torch.zeros_like(leaf) if one is None else one for (name, leaf), one in pairs}


def _at_the_target(
    compared: Compared, found: dict[str, Tensor], like: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The reference's gradients as those of the target's parameters; a parameter that serves twice has their sum."""
    right = {name: found[name] for name in ("the tokens", "the memory") if name in found}
    for name, place in compared.places.items():
        for piece in place.pieces:
            right.setdefault(piece.name, torch.zeros_like(like[piece.name]))
        if name in found:
            place.add_to(right, found[name])
    return right


@dataclass(frozen=True)
class _Telling:
    """Findings in words.

    Attributes:
        case: the run.
        compared: the reference.
        path: under which circumstances; "" for none.
    """

    case: Case
    compared: Compared
    path: str

    def shapes(self, one: Tensor, wanted: Tensor) -> Finding:
        """Outputs of two shapes."""
        words = (
            f"the output is {tuple(one.shape)} where that of {self.compared.name} is {tuple(wanted.shape)}"
        )
        return self._finding("reference-mismatch", words, float("inf"), {"where": "the output"})

    def by_token(self, what: str, one: Tensor, wanted: Tensor, far: Tensor, fault: str = "") -> Finding:
        """Where the output, or a gradient of tokens, differs most, and where first."""
        off, batch_len = far > ROUNDING, far.shape[1]
        first = next(t for t in range(batch_len) if off[:, t].any())
        b, t = divmod(int(far.argmax()), batch_len)
        i = int((one - wanted)[b, t].abs().nan_to_num(nan=float("inf")).argmax())
        words = (
            f"{what} is not that of {self.compared.name}: token {t} of sample {b} is off by {far[b, t].item():.2g} of "
            f"the largest number ({one[b, t, i].item():.4g} for {wanted[b, t, i].item():.4g}); "
            f"{int(off.any(0).sum())} of {batch_len} tokens differ, the first is {first}"
        )
        data = {"where": what, "first": first, "token": (b, t)}
        return self._finding(fault or "reference-mismatch", words, far[b, t].item(), data)

    def gradients(self, found: dict[str, Tensor], right: dict[str, Tensor]) -> list[Finding]:
        """The first gradient that differs, inputs before parameters; of no or one finding."""
        largest = max(one.nan_to_num().abs().max().item() for one in right.values() if one.numel())
        for name, wanted in right.items():
            given, size = found[name], wanted.nan_to_num().abs().max().item()
            allowed = ROUNDING * size + NONE * largest
            off = (
                (given - wanted)
                .abs()
                .where(~(given.isnan() & wanted.isnan()), 0.0)
                .nan_to_num(nan=float("inf"))
            )
            if not off.numel() or off.max().item() <= allowed:
                continue
            fault = "gradient-wrong" if given.any() else "gradient-blocked"
            what = f"the gradient of {name}"
            if name.startswith("the "):
                return [self.by_token(what, given, wanted, off.amax(-1) / max(size, 1e-300), fault)]
            place = tuple(torch.unravel_index(off.argmax(), off.shape))
            words = (
                f"{what} is not that of {self.compared.name}, whose outputs are equal: it is off by "
                f"{off.max().item() / max(size, 1e-300):.2g} of the largest number, at {[int(i) for i in place]} "
                f"({given[place].item():.4g} for {wanted[place].item():.4g})"
            )
            return [self._finding(fault, words, off.max().item() / max(size, 1e-300), {"where": name})]
        return []

    def _finding(self, fault: str, words: str, measured: float, data: dict[str, object]) -> Finding:
        check = "reference_padded" if MASKED in self.path else "reference"
        alone = without_partner(self.case, self.compared)
        more = f"; {self.compared.name} has nothing like {', '.join(alone[:3])}" if alone else ""
        return Finding(check, fault, words + more, measured, ROUNDING, path=self.path, data=data)


CHECKS = (
    Check(
        "reference",
        "basic",
        run_reference,
        "outputs and gradients are those of the reference",
        asks="reference",
    ),
    Check(
        "reference_padded",
        "basic",
        run_reference_padded,
        "with a mask of keys, outputs and gradients are those of the reference",
        asks="reference",
    ),
)
