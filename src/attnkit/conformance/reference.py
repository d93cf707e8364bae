"""What a target may be compared with, and where the numbers of it come from.

check(module, reference="causal")                                        a mechanism of the catalogue
check(module, reference=Reference("sliding_window", options={"window": 4}))
check(module, reference=slow_module)                                     with parameters of the same names
check(module, reference=lambda module, x, memory, keep: ...)             with the module's own parameters
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from attnkit.errors import OptionError
from attnkit.layers.asked import as_mechanism
from attnkit.mechanism import Mechanism
from attnkit.rule import Rule

WHERE = "check, reference"
Source = str | Mechanism | Rule | nn.Module | Callable[..., Any]


@dataclass(frozen=True)
class Reference:
    """What a target is compared with, in float64: outputs, and the gradients of tokens and parameters.

    Attributes:
        source: the name of a mechanism, a `Mechanism` or a `Rule`, of which `attnkit.Attention` makes a layer; an
            `nn.Module`; or a function `(module, x, memory, keep)` that computes the output by the module's parameters.
            Where the target is a function of query, key and value, so is this function.
        weights: where the numbers of a layer or a module come from, if neither names nor roles tell it:
            {parameter or submodule of the reference: that of the target}. "qkv.weight[0:24]" is a part of the rows,
            several names stand one under another, and None is zero.
        options: those of the mechanism and of `attnkit.Attention`, such as window, positions or num_kv_heads.

    Raises:
        OptionError: it is none of these, or has weights or options that it has no use for.
        UnknownNameError: there is no such mechanism.
    """

    source: Source
    weights: Mapping[str, str | Sequence[str] | None] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.source, type) or not (self.is_mechanism or callable(self.source)):
            raise OptionError(
                where=WHERE,
                what="it is the name of a mechanism, a Mechanism, a Rule, a module or a function; "
                f"got {self.source!r}",
                fix='reference="causal", or reference=my_slow_module',
            )
        if self.is_mechanism:
            as_mechanism(self.source)
        elif self.options:
            raise OptionError(
                where=WHERE,
                what=f"options are those of a mechanism; got {', '.join(self.options)} for a {self.kind}",
                fix='Reference("sliding_window", options={"window": 4})',
            )
        if self.weights and self.kind == "function":
            raise OptionError(
                where=WHERE,
                what="a function reads the parameters of the module that it is given; got weights for it",
                fix="reference=lambda module, x, memory, keep: x @ module.my_weight.T",
            )

    @classmethod
    def of(cls, given: "Source | Reference") -> "Reference":
        """What was given, as a reference."""
        return given if isinstance(given, cls) else cls(given)  # pyright: ignore[reportArgumentType]

    @property
    def is_mechanism(self) -> bool:
        """Whether `attnkit.Attention` makes a layer of it."""
        return isinstance(self.source, str | Mechanism | Rule)

    @property
    def kind(self) -> str:
        """Whether it is a "mechanism", a "module" or a "function"."""
        if self.is_mechanism:
            return "mechanism"
        return "module" if isinstance(self.source, nn.Module) else "function"

    @property
    def name(self) -> str:
        """What it is called in reports."""
        if self.is_mechanism:
            return as_mechanism(self.source).name
        return getattr(self.source, "__name__", None) or type(self.source).__name__
