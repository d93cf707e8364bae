"""The mechanism that a layer is asked for: by name, as a value, or as a rule that has no name."""

from dataclasses import dataclass

from attnkit.catalog import find
from attnkit.errors import OptionError
from attnkit.mechanism import Mechanism, Paper
from attnkit.rule import Rule


@dataclass(frozen=True)
class _Given:
    """What builds a rule that is there already; a class, so that layers can be pickled."""

    rule: Rule

    def __call__(self) -> Rule:
        return self.rule


def _mechanism_of(rule: Rule) -> Mechanism:
    return Mechanism(
        name="rule",
        family="where",
        summary="A rule of its own.",
        formula="",
        paper=Paper("", 0, ""),
        rule=_Given(rule),
    )


def as_mechanism(given: object) -> Mechanism:
    """The mechanism that a layer is asked for.

    Raises:
        UnknownNameError: there is none of that name.
        OptionError: what is given is no mechanism, or a rule with dropout.
    """
    if isinstance(given, Mechanism):
        return given
    if isinstance(given, str):
        return find(given)
    if isinstance(given, Rule):
        if given.dropout:
            raise OptionError(
                where="Attention",
                what=f"the layer drops weights itself, while it trains; got a rule with dropout={given.dropout}",
                fix=f"Attention(..., dropout={given.dropout}), and a rule without",
            )
        return _mechanism_of(given)
    raise OptionError(
        where="Attention",
        what=f"mechanism is a name, a Mechanism or a Rule; got {type(given).__name__}",
        fix='mechanism="causal"; attnkit list tells every name',
    )
