"""The errors that attnkit raises on purpose: where, what was given, what holds, and what to write instead."""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class AttentionError(ValueError):
    """Base class: `except AttentionError` catches every error that attnkit raises on purpose.

    Args:
        where: the function or class that refuses.
        what: what was given and what holds.
        fix: what to write instead.
    """

    def __init__(self, *, where: str, what: str, fix: str) -> None:
        # not super().__init__, which torch.compile cannot trace
        self.args = (f"{where}: {what}\n  fix: {fix}",)
        self.where, self.what, self.fix = where, what, fix

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.where, self.what, self.fix)


class OptionError(AttentionError):
    """An option has a value that means nothing."""


class ShapeError(AttentionError):
    """Axes do not fit together."""


class DtypeError(AttentionError):
    """Numbers are of a kind that attention cannot use."""


class BackendError(AttentionError):
    """The backend that was insisted on cannot run this rule on these inputs."""


class UnknownNameError(AttentionError):
    """A name that nothing goes by."""


class MissingExtraError(AttentionError, ImportError):
    """An optional package is needed and not installed."""


def _rebuild(kind: type[AttentionError], where: str, what: str, fix: str) -> AttentionError:
    return kind(where=where, what=what, fix=fix)


def unknown_name(where: str, noun: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """The error for `name`, which is none of `known`: it suggests the nearest, or lists them all."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    fix = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(names)}"
    return UnknownNameError(where=where, what=f"there is no {noun} {name!r}", fix=fix)


def need(module: str, *, extra: str, where: str) -> ModuleType:
    """Import an optional `module`, or say which extra brings it.

    Raises:
        MissingExtraError: `module` is not installed; the message holds the install command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name != module.partition(".")[0]:
            raise
        raise MissingExtraError(
            where=where,
            what=f"the package {missing.name!r} is not installed",
            fix=f'pip install "attnkit[{extra}]"',
        ) from missing
