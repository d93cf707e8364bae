"""The reference of a case, made: a copy in float64, called as the target is, and with the target's numbers.

Neither the target nor the module that is given as a reference is called or changed: both are copied.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from attnkit.conformance.adapters import subject_of
from attnkit.conformance.adapters.functions import AroundFunction
from attnkit.conformance.adapters.libraries import known
from attnkit.conformance.case import Case
from attnkit.conformance.declared import Declared
from attnkit.conformance.places import Piece, Place, told_places
from attnkit.conformance.reference import WHERE, Reference
from attnkit.conformance.roles import Roles, heads_of, roles_of
from attnkit.conformance.subject import Subject
from attnkit.errors import OptionError
from attnkit.layers.attention import Attention

ROLES = ("query", "key", "value", "output")


@dataclass(frozen=True)
class Compared:
    """A reference that holds the target's numbers.

    Attributes:
        name: what it is called in a report.
        subject: how it is called.
        places: where each of its parameters has its numbers from.
    """

    name: str
    subject: Subject
    places: Mapping[str, Place]


def compared_with(case: Case, reference: Reference) -> Compared:
    """The reference, ready to be called.

    Raises:
        OptionError: its weights find no partner, or it cannot be called.
    """
    if reference.kind == "function":
        made = [_of_function(case, reference)]
    elif reference.kind == "module":
        subject = _subject_of(case, reference)
        made = [_with_numbers(case, reference, subject, {})]
    else:
        heads = heads_of(case)
        if heads is None:
            raise OptionError(
                where=WHERE,
                what=f"nothing tells how many heads {case.subject.name} has, which a layer of {reference.name} needs",
                fix="check(module, num_heads=4, reference=...)",
            )
        made = [_of_mechanism(case, reference, heads, roles) for roles in roles_of(case, heads)]
    return min(made, key=lambda one: _first_call(case, one)) if len(made) > 1 else _tried(case, made[0])


def _of_function(case: Case, reference: Reference) -> Compared:
    """A function of the target's module; or of query, key and value, where the target is one."""
    subject, function = case.untouched.copied(), cast(Callable[..., Any], reference.source)
    if isinstance(subject.module, AroundFunction):
        subject.module.function = function
    else:
        subject = replace(
            subject, call=lambda module, x, memory, keep, cache: function(module, x, memory, keep)
        )
    places = {name: Place((Piece(name),)) for name, _ in subject.module.named_parameters()}
    return Compared(reference.name, replace(subject, name=reference.name), places)


def _subject_of(case: Case, reference: Reference) -> Subject:
    """A module as a reference: called in its own way where that is known, else as it is said of the target."""
    said, module = case.declared, reference.source
    assert isinstance(module, nn.Module)
    call = said.call if known(module, replace(said, call=None)) is None else None
    sizes = {"d_in": case.subject.d_in, "memory_dim": case.subject.memory_dim}
    taken = {name: getattr(said, name) for name in ("causal", "window", "cross", "num_heads", "seed")}
    return subject_of(module, Declared(**sizes, **taken, call=call))


def _of_mechanism(case: Case, reference: Reference, heads: int, roles: Roles) -> Compared:
    """A layer of the catalogue as wide as the target."""
    own = dict(case.subject.module.named_parameters())
    options = _sizes(case, heads, roles, own) | dict(reference.options)
    layer = Attention(case.subject.d_in, heads, mechanism=reference.source, **options)  # pyright: ignore[reportArgumentType]
    subject = subject_of(layer, Declared(cross=case.declared.cross))
    return _with_numbers(case, reference, subject, roles)


def _sizes(case: Case, heads: int, roles: Roles, own: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of a layer that is as large as the target."""
    module, places = case.subject.module, [roles.get(f"{role}.weight") for role in ROLES[:2]]
    found: dict[str, Any] = {"bias": any(f"{role}.bias" in roles for role in ROLES)}
    if case.subject.memory_dim != case.subject.d_in:
        found["memory_dim"] = case.subject.memory_dim
    if isinstance(module, Attention):
        shared = module.num_kv_heads if module.num_kv_heads != module.num_heads else None
        return found | {
            "head_dim": module.head_dim,
            "num_kv_heads": shared,
            "positions": module.positions,
        }
    rows = [len(place.of(own, torch.empty(0))) for place in places if place is not None]
    if rows and rows[0] % heads == 0:
        found["head_dim"] = rows[0] // heads
        if len(rows) == 2 and rows[1] != rows[0] and rows[1] % found["head_dim"] == 0:
            found["num_kv_heads"] = rows[1] // found["head_dim"]
    return found


def _with_numbers(case: Case, reference: Reference, subject: Subject, roles: Roles) -> Compared:
    """The reference with the target's numbers.

    Raises:
        OptionError: some of its parameters find no partner, or one of another shape.
    """
    target = case.untouched.module
    own, theirs = dict(target.named_parameters()), dict(subject.module.named_parameters())
    told = told_places(reference.weights, subject.module, target)
    places = {name: told.get(name) or _usual(name, reference, roles, own) for name in theirs}
    _check_partners(case, reference, places, theirs, own)
    with torch.no_grad():
        for name, parameter in theirs.items():
            place = places[name]
            assert place is not None
            parameter.copy_(place.of(own, parameter))
    found = {name: place for name, place in places.items() if place is not None}
    return Compared(reference.name, replace(subject, name=reference.name), found)


def _usual(name: str, reference: Reference, roles: Roles, own: Mapping[str, Tensor]) -> Place | None:
    """By the role in the target, or by the same name; what a projection adds is zero where the target adds nothing."""
    if name in roles:
        return roles[name]
    if name in own:
        return Place((Piece(name),))
    adds = reference.is_mechanism and name in [f"{role}.bias" for role in ROLES]
    return Place() if adds else None


def _check_partners(
    case: Case,
    reference: Reference,
    places: Mapping[str, Place | None],
    theirs: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
) -> None:
    lost = [name for name, place in places.items() if place is None]
    if lost:
        some = ", ".join(f"{name} {tuple(theirs[name].shape)}" for name in lost)
        raise OptionError(
            where=WHERE,
            what=f"these weights of {reference.name} find no partner in {case.subject.name}: {some}; "
            f"it has {', '.join(own) or 'none'}",
            fix=f'Reference(..., weights={{"{lost[0]}": "{next(iter(own), "its_name")}"}}), a line for each',
        )
    for name, place in places.items():
        assert place is not None
        shape, wanted = place.shape(own, theirs[name]), tuple(theirs[name].shape)
        if shape != wanted:
            raise OptionError(
                where=WHERE,
                what=f"{name} of {reference.name} is {wanted}, and {place} of {case.subject.name} is {shape or 'none'}",
                fix=f'num_heads and num_kv_heads as they are, or Reference(..., weights={{"{name}": ...}})',
            )


def without_partner(case: Case, compared: Compared) -> list[str]:
    """The parameters of the target that no parameter of the reference has its numbers from."""
    used = {piece.name for place in compared.places.values() for piece in place.pieces}
    return [name for name, _ in case.untouched.module.named_parameters() if name not in used]


def _first_call(case: Case, compared: Compared) -> float:
    """How far outputs are from the target's, to tell how a projection of all three is arranged."""
    x, memory = case.tokens(seed=80), case.memory(seed=80)
    with torch.no_grad():
        wanted = case.untouched.copied()(x, memory=memory)
        return case.off(_tried(case, compared).subject.copied()(x, memory=memory), wanted)


def _tried(case: Case, compared: Compared) -> Compared:
    """The same, which can be called.

    Raises:
        OptionError: it cannot be.
    """
    x, memory = case.tokens(seed=80), case.memory(seed=80)
    try:
        with torch.no_grad():
            compared.subject.copied()(x, memory=memory)
    except Exception as trouble:  # whatever a reference raises
        words = f", with a memory {tuple(memory.shape)}" if memory is not None else ""
        raise OptionError(
            where=WHERE,
            what=f"{compared.name} raised {type(trouble).__name__} for x {tuple(x.shape)}{words}: {trouble}",
            fix="reference=lambda module, x, memory, keep: ..., with the module's own parameters",
        ) from trouble
    return compared
