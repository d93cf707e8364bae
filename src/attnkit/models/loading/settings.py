"""What a checkpoint says of its model; a value of a kind that is not expected is refused by its name."""

import math
from collections.abc import Mapping
from typing import Any

from attnkit.errors import OptionError

WHERE = "load"
_SAVED = "use the settings that were saved with the tensors"


class Settings:
    """Settings by name, such as those of `config.json`.

    Args:
        place: where they stand, for messages.
        values: by name.
    """

    def __init__(self, place: str, values: Mapping[str, Any]) -> None:
        self.place, self.values = place, values

    def get(self, *names: str, default: Any = ...) -> Any:
        """The first of these settings that is there and not null.

        Raises:
            OptionError: none is, and there is no default.
        """
        for name in names:
            if self.values.get(name) is not None:
                return self.values[name]
        if default is ...:
            raise OptionError(where=WHERE, what=f"{self.place} does not say {names[0]}", fix=_SAVED)
        return default

    def whole(self, *names: str, default: Any = ..., least: int = 1) -> int:
        """A whole number, at least 1 or what is given.

        Raises:
            OptionError: it is something else.
        """
        given = self.get(*names, default=default)
        if not isinstance(given, int) or isinstance(given, bool) or given < least:
            raise self.wrong(names, f"is a whole number from {least} on", given)
        return given

    def number(self, *names: str, default: Any = ...) -> int | float:
        """A finite number above 0.

        Raises:
            OptionError: it is something else.
        """
        given = self.get(*names, default=default)
        if not isinstance(given, int | float) or isinstance(given, bool) or not 0 < given < math.inf:
            raise self.wrong(names, "is a number above 0", given)
        return given

    def flag(self, *names: str, default: Any = ...) -> bool:
        """True or false.

        Raises:
            OptionError: it is something else.
        """
        given = self.get(*names, default=default)
        if not isinstance(given, bool):
            raise self.wrong(names, "is true or false", given)
        return given

    def chosen(self, name: str, known: Mapping[str, str], default: Any = ...) -> str:
        """Our name for a value.

        Raises:
            OptionError: it is none of those that are known.
        """
        given = self.get(name, default=default)
        if not isinstance(given, str) or given not in known:
            raise self.refusal(f"{name} is {given!r}", " or ".join(known))
        return known[given]

    def within(self, *names: str) -> "Settings":
        """Settings inside of a setting; empty where there are none.

        Raises:
            OptionError: it holds no settings.
        """
        name = next((name for name in names if self.get(name, default=None) is not None), names[0])
        given = self.get(name, default={})
        if not isinstance(given, dict):
            raise self.wrong((name,), "holds settings of its own", given)
        return Settings(f"{self.place}, {name}", given)

    def expect(self, **values: Any) -> None:
        """Refuse a model that differs from these in what it computes; a setting that is not there is as expected.

        Raises:
            OptionError: one differs.
        """
        for name, value in values.items():
            given = self.get(name, default=value)
            if given != value:
                raise self.refusal(f"{name} is {given!r}", f"{name} = {value!r}")

    def refusal(self, what: str, known: str) -> OptionError:
        """The error for a model that computes something else than ours."""
        return OptionError(where=WHERE, what=f"{self.place}: {what}", fix=f"{known}, is what is known here")

    def wrong(self, names: tuple[str, ...], holds: str, given: Any) -> OptionError:
        """The error for a value that means nothing."""
        return OptionError(
            where=WHERE, what=f"{self.place}: {names[0]} {holds}; got {given!r:.80}", fix=_SAVED
        )
