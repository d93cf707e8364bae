"""What is said of a target: it is tested. What is not said is found out where it can be, and described.

`Declared` holds what each argument means and is by default; `Said` lists the same for editors, `explicit` for help().
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypedDict, TypeVar, get_type_hints

from attnkit.conformance.reference import Reference, Source
from attnkit.errors import OptionError, unknown_name
from attnkit.shapes import check_dropout

POSITIONS = ("rotary", "alibi", "relative", "absolute")
LEVELS = ("basic", "full", "strict")

Call = Callable[..., Any]
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Said(TypedDict, total=False):
    """The arguments of `check` by name, as `Declared` has them."""

    d_in: int | None
    memory_dim: int | None
    causal: bool
    window: int | None
    mask: bool | None
    cache: bool | None
    num_heads: int | None
    num_kv_heads: int | None
    dropout: float | None
    positions: str | None
    scale: float | None
    softcap: float | None
    normalised: bool | None
    cross: bool
    projections: Mapping[str, str] | None
    call: Call | None
    reference: Source | Reference | None
    level: str
    expected: Mapping[str, str]
    limit_seconds: float | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What is said of a target; the arguments of `check`.

    Attributes:
        d_in: numbers of a token; found by the projections when not given.
        memory_dim: numbers of a token of the memory; `d_in` when not given.
        causal: whether a token may not read later ones.
        window: how many tokens each reads, its own included; None for all.
        mask: False where it takes no mask; None finds out.
        cache: False where it takes no cache; None finds out.
        num_heads: heads of the query; found where it can be.
        num_kv_heads: heads of key and value; as many as `num_heads` when not given.
        dropout: the probability that it was built with; None finds out.
        positions: "rotary", "alibi", "relative", "absolute", or None for none or unknown.
        scale: what scores are multiplied by; 1/sqrt(head_dim), or what a library's own design is, when not given.
        softcap: what scores are capped at; None finds out.
        normalised: whether the weights of a query sum to one; False for sinks, sigmoids and the like.
        cross: whether it reads a memory; False where it can't.
        projections: the names of the submodules of query, key, value and output; found by name and shape otherwise.
        call: how it is called, `call(module, x, memory, keep, cache)`; found by its signature otherwise.
        reference: what outputs and gradients are compared with in float64: a mechanism's name, a module, a function
            `(module, x, memory, keep)`, or a `conformance.Reference` that tells weights and options too.
        level: "basic", "full" or "strict".
        expected: checks that are known to fail, each with the reason.
        limit_seconds: when the checks that are left are skipped; 60, 600 or 1800 by level when not given.
        seed: of all inputs.

    Raises:
        OptionError: a value means nothing.
        UnknownNameError: there are no such positions, no such level, or no such mechanism.
    """

    d_in: int | None = None
    memory_dim: int | None = None
    causal: bool = False
    window: int | None = None
    mask: bool | None = None
    cache: bool | None = None
    num_heads: int | None = None
    num_kv_heads: int | None = None
    dropout: float | None = None
    positions: str | None = None
    scale: float | None = None
    softcap: float | None = None
    normalised: bool | None = None
    cross: bool = False
    projections: Mapping[str, str] | None = None
    call: Call | None = None
    reference: Source | Reference | None = None
    level: str = "basic"
    expected: Mapping[str, str] = field(default_factory=dict)
    limit_seconds: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("d_in", "memory_dim", "window", "num_heads", "num_kv_heads"):
            number = getattr(self, name)
            if number is not None and (not isinstance(number, int) or isinstance(number, bool) or number < 1):
                raise OptionError(
                    where="check", what=f"{name} is 1, 2, 3, ...; got {number!r}", fix=f"{name}=4"
                )
        for name in ("scale", "softcap", "limit_seconds"):
            number = getattr(self, name)
            if number is not None and (isinstance(number, bool) or not number > 0):
                raise OptionError(
                    where="check", what=f"{name} is a number above 0; got {number!r}", fix=f"{name}=0.5"
                )
        if self.positions is not None and self.positions not in POSITIONS:
            raise unknown_name("check", "kind of positions", self.positions, POSITIONS)
        if self.level not in LEVELS:
            raise unknown_name("check", "level", self.level, LEVELS)
        if self.dropout is not None:
            check_dropout("check", self.dropout, fix="dropout=0.1, as the module was built")
        if self.num_heads and self.num_kv_heads and self.num_heads % self.num_kv_heads:
            raise OptionError(
                where="check",
                what=f"{self.num_heads} query heads cannot share num_kv_heads={self.num_kv_heads} evenly",
                fix=f"num_kv_heads divides {self.num_heads}",
            )
        if self.reference is not None:
            Reference.of(self.reference)
        for check, reason in self.expected.items():
            if not isinstance(reason, str) or not reason:
                raise OptionError(
                    where="check",
                    what=f"expected says for each check why it may fail; got {reason!r} for {check!r}",
                    fix=f'expected={{"{check}": "the paper leaves it out"}}',
                )


def declared_by(said: Mapping[str, Any]) -> Declared:
    """What was said, by the names of arguments.

    Raises:
        OptionError: a value means nothing.
        UnknownNameError: there is no such argument, no such positions, or no such level.
    """
    names = [one.name for one in fields(Declared)]
    for name in said:
        if name not in names:
            raise unknown_name("check", "argument", name, names)
    return Declared(**said)


def explicit(function: _Function) -> _Function:
    """The function, whose `**said` is told argument by argument to help() and whoever else asks for its signature."""
    known = inspect.signature(function)
    kinds, types = inspect.Parameter, get_type_hints(Declared)
    before = [one for one in known.parameters.values() if one.kind is not kinds.VAR_KEYWORD]
    told = [
        kinds(one.name, kinds.KEYWORD_ONLY, default=_usual(one), annotation=types[one.name])
        for one in fields(Declared)
    ]
    signature = known.replace(parameters=[*before, *told])
    function.__signature__ = signature  # pyright: ignore[reportFunctionMemberAccess]
    return function


def _usual(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()
