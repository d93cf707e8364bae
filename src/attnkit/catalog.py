"""The catalogue: every mechanism of this package, found by its file, and every other package's, by entry point.

    [project.entry-points."attnkit.mechanisms"]
    my_mechanism = "my_package.my_mechanism:MECHANISM"

The entry point has the name of its mechanism, so that a name is looked up without loading every package.
"""

import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from attnkit import mechanisms
from attnkit.errors import OptionError, unknown_name
from attnkit.mechanism import Mechanism

GROUP = "attnkit.mechanisms"

FAMILIES = {
    "where": "which keys a query may read",
    "score": "how a key is scored",
    "normalise": "how scores become weights",
    "heads": "how heads share and mix",
    "selection": "which keys are chosen by what they hold",
    "approximation": "what comes close to full attention for less work",
    "recurrence": "a memory of fixed size instead of the past",
}


def all_mechanisms() -> dict[str, Mechanism]:
    """Every mechanism by name, in the order of the alphabet.

    Raises:
        OptionError: two of them have one name, or an entry point cannot be loaded or gives something else.

    Example:
        >>> "sliding_window" in all_mechanisms()
        True
    """
    points = tuple(entry_points(group=GROUP))
    names = _own_names() | {point.name for point in points}
    return {name: _found(name, points, "all_mechanisms") for name in sorted(names)}


def find(name: str) -> Mechanism:
    """The mechanism of that name.

    Raises:
        UnknownNameError: there is none.
        OptionError: two mechanisms have that name, or its entry point cannot be loaded or gives something else.

    Example:
        >>> find("causal")
        <mechanism causal>
    """
    points = tuple(entry_points(group=GROUP))
    known = _own_names() | {point.name for point in points}
    if name not in known:
        raise unknown_name("find", "mechanism", name, known)
    return _found(name, points, "find")


def package_of(mechanism: Mechanism) -> str | None:
    """The installed package that brings a mechanism of the catalogue; None where it is attnkit's own."""
    points = entry_points(group=GROUP, name=mechanism.name)
    return next((_package(point) for point in points), None)


@cache
def _own_names() -> frozenset[str]:
    names = (module.name for module in pkgutil.iter_modules(mechanisms.__path__))
    return frozenset(name for name in names if not name.startswith("_"))


def _found(name: str, points: Iterable[EntryPoint], where: str) -> Mechanism:
    """The one mechanism of that name, which somebody has."""
    found: list[Mechanism] = []
    if name in _own_names():
        found.append(importlib.import_module(f"{mechanisms.__name__}.{name}").MECHANISM)
    for point in points:
        if point.name != name:
            continue
        mechanism = _loaded(point, where)
        if found and found[0] is not mechanism:
            raise OptionError(
                where=where,
                what=f"two mechanisms are named {name!r}; {point.value} of {_package(point)} is one of them",
                fix=f"uninstall {_package(point)}, or give its mechanism another name",
            )
        found.append(mechanism)
    return found[0]


def _loaded(point: EntryPoint, where: str) -> Mechanism:
    """The mechanism that an entry point leads to.

    Raises:
        OptionError: there is nothing to load, or something else than a mechanism of that name and a known family.
    """
    try:
        mechanism = point.load()
    except Exception as error:  # whatever another package's file raises while it is imported
        raise OptionError(
            where=where,
            what=f"{point.value} of {_package(point)} cannot be loaded: {type(error).__name__}: {error}",
            fix=f"install {_package(point)} again, or uninstall it",
        ) from error
    if not isinstance(mechanism, Mechanism):
        raise OptionError(
            where=where,
            what=f"{point.value} of {_package(point)} is a {type(mechanism).__name__}, no Mechanism",
            fix=f'the entry point names the value: {point.name} = "package.module:MECHANISM"',
        )
    if mechanism.name != point.name:
        raise OptionError(
            where=where,
            what=f"the entry point {point.name!r} of {_package(point)} leads to a mechanism named {mechanism.name!r}",
            fix=f'in its pyproject.toml: {mechanism.name} = "{point.value}"',
        )
    if mechanism.family not in FAMILIES:
        raise OptionError(
            where=where,
            what=f"{mechanism.name} of {_package(point)} is of an unknown family, {mechanism.family!r}",
            fix=f"one of {', '.join(FAMILIES)}",
        )
    return mechanism


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown package"
