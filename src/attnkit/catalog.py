"""The catalogue: every mechanism of this package, found by its file, and every other package's, by entry point.

[project.entry-points."attnkit.mechanisms"]
my_mechanism = "my_package.my_mechanism:MECHANISM"
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


def all_mechanisms() -> dict[str, Mechanism]:
    """Every mechanism by name, in the order of the alphabet.

    Raises:
        OptionError: two of them have one name, or an entry point gives something else.

    Example:
        >>> "sliding_window" in all_mechanisms()
        True
    """
    found = {name: find(name) for name in _own_names()}
    for point in entry_points(group=GROUP):
        mechanism = _loaded(point)
        if mechanism.name in found and found[mechanism.name] is not mechanism:
            raise OptionError(
                where="all_mechanisms",
                what=f"two mechanisms are named {mechanism.name!r}; {point.value} of {_package(point)} is one of them",
                fix=f"uninstall {_package(point)}, or give its mechanism another name",
            )
        found[mechanism.name] = mechanism
    return dict(sorted(found.items()))


def find(name: str) -> Mechanism:
    """The mechanism of that name.

    Raises:
        UnknownNameError: there is none.
        OptionError: two mechanisms have one name.

    Example:
        >>> find("causal")
        <mechanism causal>
    """
    if name in _own_names():
        return importlib.import_module(f"{mechanisms.__name__}.{name}").MECHANISM
    known = all_mechanisms() if entry_points(group=GROUP) else _own_names()
    if name not in known:
        raise unknown_name("find", "mechanism", name, known)
    return all_mechanisms()[name]


@cache
def _own_names() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(mechanisms.__path__))


def _loaded(point: EntryPoint) -> Mechanism:
    mechanism = point.load()
    if not isinstance(mechanism, Mechanism):
        raise OptionError(
            where="all_mechanisms",
            what=f"{point.value} of {_package(point)} is a {type(mechanism).__name__}, no Mechanism",
            fix=f'the entry point names the value: {point.name} = "package.module:MECHANISM"',
        )
    return mechanism


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown package"


def of_family(family: str, among: Iterable[Mechanism]) -> list[Mechanism]:
    """Those of one family."""
    return [mechanism for mechanism in among if mechanism.family == family]
