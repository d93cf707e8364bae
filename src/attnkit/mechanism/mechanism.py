"""A mechanism: one way to attend, as a value, from which tests, page, picture, benchmark and layer follow.

    context = attend(prepare(query, key, value), mask)

It is given in one of three forms: a `rule`, which every backend runs; a `recurrence`, whose past is a state; or
`attend`, a function that is written out. `prepare` is what happens to each token by itself, so that a cache can hold
the result.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from attnkit.errors import OptionError, unknown_name
from attnkit.masks import Mask
from attnkit.mechanism.bound import Bound, sizes_of
from attnkit.mechanism.parts import Learned, Projected
from attnkit.mechanism.signatures import Option, options_of
from attnkit.recurrence import Recurrence
from attnkit.rule import Rule
from attnkit.shapes import Weights

Law = Callable[..., None]
# widths are the mechanism's own: a part named query, key or value replaces the usual one
Asking = Float[Tensor, "*heads q_len _"]
Read = Float[Tensor, "*_ kv_len _"]


@dataclass(frozen=True)
class Paper:
    """Where a mechanism was first described.

    Attributes:
        title: as it is printed.
        year: of its first version.
        url: where to read it.
        equation: which equation or section of it this is.
    """

    title: str
    year: int
    url: str
    equation: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Mechanism:
    r"""One way to attend.

    Attributes:
        name: what it is found by: the name of its file.
        family: "where", "score", "normalise", "heads", "selection", "approximation" or "recurrence".
        summary: one sentence.
        formula: LaTeX, without dollar signs.
        paper: where it was first described.
        rule: options and learned tensors to a `Rule`.
        recurrence: options to a `Recurrence`.
        attend: `(query, key, value, *, mask, q_start, ...)` to the context, where neither of the two can say it.
        prepare: `(query, key, value, *, q_pos, kv_pos, ...)` to a dict of those that it changes, token by token.
        weigh: `(query, key, *, mask, q_start, ...)` to the weights, where `attend` does more than mix values.
        finish: `(mixed, ...)` to the context, what `attend` does to the values that its weights have mixed, such as
            to gate them; None where it does nothing. Laws need it, to tell weights that are true.
        parts: what a layer learns or projects for it.
        laws: what is true of it, besides what is true of all.
        examples: values of its options that show it; at least those without a default.
        settles: whether later tokens leave a token's context as it is, if the mask hides the future.
        own_positions: whether it turns query and key by their positions itself.
    """

    name: str
    family: str
    summary: str
    formula: str
    paper: Paper
    rule: Callable[..., Rule] | None = None
    recurrence: Callable[..., Recurrence] | None = None
    attend: Callable[..., Tensor] | None = None
    prepare: Callable[..., dict[str, Tensor]] | None = None
    weigh: Callable[..., Tensor] | None = None
    finish: Callable[..., Tensor] | None = None
    parts: tuple[Learned | Projected, ...] = ()
    laws: tuple[Law, ...] = ()
    examples: tuple[Mapping[str, Any], ...] = ({},)
    settles: bool = True
    own_positions: bool = False

    def __post_init__(self) -> None:
        forms = [form for form in (self.rule, self.recurrence, self.attend) if form is not None]
        assert len(forms) == 1, (
            f"{self.name}: a mechanism is a rule, a recurrence or a function, just one of them"
        )

    def __repr__(self) -> str:
        return f"<mechanism {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        module = self.builder.__module__
        if getattr(sys.modules.get(module), "MECHANISM", None) is self:
            return _constant, (module,)
        return _restored, (dict(vars(self)),)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Mechanism":
        return self

    @property
    def builder(self) -> Callable[..., Any]:
        """The function that its options are arguments of."""
        builder = self.rule or self.recurrence or self.attend
        assert builder is not None
        return builder

    @property
    def text(self) -> str:
        """What its file says of itself."""
        return inspect.cleandoc(inspect.getmodule(self.builder).__doc__ or "")  # pyright: ignore

    @property
    def options(self) -> tuple[Option, ...]:
        """What can be set, in order."""
        named = {part.name for part in self.parts}
        functions = [f for f in (self.builder, self.prepare, self.weigh) if f is not None]
        return tuple(option for option in options_of(functions) if option.name not in named)

    def bind(self, options: Mapping[str, Any]) -> Bound:
        """The mechanism with its options set; the rest have their defaults.

        Raises:
            UnknownNameError: there is no such option.
            OptionError: an option without a default is missing, or a value means nothing.
        """
        known = {option.name: option for option in self.options}
        for name in options:
            if name not in known:
                raise _no_such_option(self, name, known)
        missing = [name for name, option in known.items() if option.required and name not in options]
        if missing:
            example = ", ".join(f"{name}={value!r}" for name, value in self.examples[0].items())
            raise OptionError(
                where=self.name,
                what=f"{missing[0]} is missing, {known[missing[0]].meaning or 'which has no default'}",
                fix=f"for instance {example}",
            )
        return Bound.of(self, {name: options.get(name, option.default) for name, option in known.items()})

    def __call__(
        self,
        query: Asking,
        key: Read,
        value: Read,
        *,
        mask: Mask | None = None,
        q_start: int | None = None,
        parts: Mapping[str, Tensor] | None = None,
        **options: Any,
    ) -> Asking:
        """The context, of tensors that are split into heads.

        Args:
            query: `*batch heads q_len head_dim`.
            key: `*batch kv_heads kv_len head_dim`.
            value: `*batch kv_heads kv_len d_value`.
            mask: where each query looks, for a mechanism that has this option; for others, which look somewhere by
                nature, what is hidden besides.
            q_start: the position of the first query; `kv_len - q_len` when not given.
            parts: the tensors of `self.parts`, by name.
            options: those of the mechanism.

        Returns:
            `*batch heads q_len d_value`.

        Raises:
            UnknownNameError: there is no such option.
            OptionError: a value means nothing, or one is missing.
            ShapeError: axes do not fit together.
        """
        bound, mask = self._bound(mask, options)
        tensors = {"query": query, "key": key, "value": value} | dict(parts or {})
        start = key.shape[-2] - query.shape[-2] if q_start is None else q_start
        tensors = bound.prepared(tensors, sizes_of(query, key), q_start=start)
        return bound.attended(tensors, sizes_of(query, key), mask=mask, q_start=start)

    def weights(
        self,
        query: Asking,
        key: Read,
        *,
        value: Read | None = None,
        mask: Mask | None = None,
        q_start: int | None = None,
        parts: Mapping[str, Tensor] | None = None,
        **options: Any,
    ) -> Weights:
        """How much each query reads of each value, `*batch heads q_len kv_len`. Arguments as in a call.

        A function that is written out is asked by values that are the rows of the identity.
        """
        bound, mask = self._bound(mask, options)
        value = key if value is None else value
        tensors = {"query": query, "key": key, "value": value} | dict(parts or {})
        start = key.shape[-2] - query.shape[-2] if q_start is None else q_start
        tensors = bound.prepared(tensors, sizes_of(query, key), q_start=start)
        return bound.weighed(tensors, sizes_of(query, key), mask=mask, q_start=start)

    def _bound(self, mask: Mask | None, options: Mapping[str, Any]) -> tuple[Bound, Mask | None]:
        """The mechanism with its options, and what its own mask does not say yet."""
        if mask is None or "mask" not in {option.name for option in self.options}:
            return self.bind(options), mask
        return self.bind({**options, "mask": mask}), None


def _restored(fields: dict[str, Any]) -> Mechanism:
    return Mechanism(**fields)


def _constant(module: str) -> Mechanism:
    return (
        sys.modules[module].MECHANISM
        if module in sys.modules
        else __import__(module, fromlist=["_"]).MECHANISM
    )


def _no_such_option(mechanism: Mechanism, name: str, known: Mapping[str, Option]) -> Exception:
    if known:
        return unknown_name(mechanism.name, "option", name, known)
    return OptionError(where=mechanism.name, what=f"it has no options; got {name}", fix=f"leave {name} out")
