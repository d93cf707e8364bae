"""The options of a mechanism, read off its functions: what can be set is what they take and nobody else gives."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from attnkit.mechanism.parts import Sizes

# what a layer or a call gives
_GIVEN = {"query", "key", "value", "q_start", "q_pos", "kv_pos", "dropout"}
_GIVEN |= {field.name for field in fields(Sizes)}


@dataclass(frozen=True)
class Option:
    """Something that can be set.

    Attributes:
        name: the argument.
        default: what it is when it is not set; `Option.MISSING` where it must be.
        kind: its type, as it is written.
        meaning: what the docstring says of it.
    """

    name: str
    default: Any
    kind: str
    meaning: str

    @property
    def required(self) -> bool:
        """Whether it must be set."""
        return self.default is inspect.Parameter.empty


def options_of(functions: Iterable[Callable[..., Any]]) -> tuple[Option, ...]:
    """The options of several functions together; one that two of them take is one option."""
    found: dict[str, Option] = {}
    for function in functions:
        told = _told(inspect.getdoc(function) or "")
        for name, parameter in inspect.signature(function).parameters.items():
            required = parameter.default is inspect.Parameter.empty
            if name in _GIVEN or name in found or (name == "mask" and required):
                continue  # a mask without a default is the call's
            kind = parameter.annotation
            kind = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
            found[name] = Option(name, parameter.default, kind, told.get(name, ""))
    return tuple(found.values())


def taken(function: Callable[..., Any] | None) -> frozenset[str]:
    """The names of the arguments of `function`."""
    return frozenset() if function is None else frozenset(inspect.signature(function).parameters)


def picked(names: frozenset[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `given` that go by one of `names`."""
    return {name: value for name, value in given.items() if name in names}


def _told(docstring: str) -> dict[str, str]:
    """What the section `Args:` says of each argument."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)+)", docstring, re.MULTILINE)
    if section is None:
        return {}
    lines = re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", section[1], re.MULTILINE)
    return {name: re.sub(r"\s+", " ", meaning).rstrip(".") for name, meaning in lines}
