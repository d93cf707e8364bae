"""A rule as an attention of transformers: its function and its mask function, in both registries by one call.

transformers looks up an attention by its name in one registry, and how to make its mask in another. A name that is in
the first alone gets no mask, and a decoder then reads the future in silence. So both are filled here, or none.
"""

from typing import Any

import torch

from attnkit.errors import OptionError, need
from attnkit.hf.attending import RuleOf, attention_of
from attnkit.hf.masking import mask_of_call
from attnkit.layers.asked import as_mechanism
from attnkit.mechanism import Mechanism
from attnkit.mechanism.bound import sizes_of
from attnkit.rule import Rule

WHERE = "hf.register"
_known: dict[str, tuple[object, dict[str, Any]]] = {}


def register(
    name: str = "attnkit",
    rule: Rule | Mechanism | str | None = None,
    *,
    replace: bool = False,
    **options: Any,
) -> str:
    """Make a rule an `attn_implementation` of transformers, for any of its models.

    A model keeps its own mask, so that a decoder stays causal under every rule. Where texts are padded on the left, the
    rule counts positions from where each text begins. `torch.compile` leaves these functions as they are.

    Args:
        name: what `attn_implementation` will be.
        rule: a rule, or a mechanism of the catalogue that is a rule and learns nothing; when not given, the model's own
            attention as it is, run by our backends.
        replace: whether another rule of this name gives way, in models that use it already too.
        options: those of the mechanism.

    Returns:
        The name.

    Raises:
        OptionError: the name is taken, or the rule is none that can stand in an existing model.
        UnknownNameError: there is no such mechanism or option.
        MissingExtraError: transformers is not installed.

    Example:
        >>> from attnkit import Rule, masks
        >>> register("near", Rule(mask=masks.window(256) | masks.first(4)))
        'near'
    """
    attention, mask = _registries()
    function = torch.compiler.disable(attention_of(name, _made(rule, options)))
    _check_name(name, (rule, options), replace, {*attention().valid_keys(), *mask().valid_keys(), "eager"})
    # the mask first, so that the function is never there alone
    mask.register(name, torch.compiler.disable(mask_of_call))
    attention.register(name, function)
    _known[name] = (rule, options)
    return name


def _registries() -> tuple[Any, Any]:
    transformers = need("transformers", extra="hf", where=WHERE)
    kinds = ("AttentionInterface", "AttentionMaskInterface")
    if not all(hasattr(transformers, kind) for kind in kinds):
        raise OptionError(
            where=WHERE,
            what=f"transformers {transformers.__version__} has not both registries, of functions and of masks",
            fix='pip install "transformers>=5"',
        )
    attention, mask = (getattr(transformers, kind) for kind in kinds)
    return attention, mask


def _made(rule: Rule | Mechanism | str | None, options: dict[str, Any]) -> RuleOf:
    """What gives the rule of a call, by its query and key."""
    if rule is None or isinstance(rule, Rule):
        if options:
            raise OptionError(
                where=WHERE,
                what=f"a rule has its options inside; got {', '.join(options)} besides",
                fix='register("near", Rule(mask=...)), or a mechanism, register("near", "sliding_window", window=256)',
            )
        whole = rule or Rule()
        if whole.dropout:
            raise OptionError(
                where=WHERE,
                what=f"a model drops weights itself, while it trains; got a rule with dropout={whole.dropout}",
                fix="attention_dropout in the model's config, and a rule without",
            )
        return lambda query, key: whole
    mechanism = as_mechanism(rule)
    if mechanism.rule is None or mechanism.parts or mechanism.prepare or mechanism.finish:
        raise OptionError(
            where=WHERE,
            what=f"{mechanism.name} learns or changes something of its own, for which a trained model has no place",
            fix="a mechanism that is a rule alone, such as sliding_window, or a Rule",
        )
    bound = mechanism.bind(options)
    return lambda query, key: bound.rule({}, sizes_of(query, key))


def _check_name(name: object, asked: tuple[object, dict[str, Any]], replace: bool, taken: set[str]) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise OptionError(
            where=WHERE,
            what=f"a name has letters, digits and underscores, as other signs mean something there; got {name!r}",
            fix='register("near", rule)',
        )
    if name in taken and name not in _known:
        raise OptionError(
            where=WHERE,
            what=f"transformers has an attention {name!r} already",
            fix=f'register("our_{name}", rule)',
        )
    if name in _known and _known[name] != asked and not replace:
        raise OptionError(
            where=WHERE,
            what=f"{name!r} is {_told(_known[name])} already",
            fix="another name, or replace=True, which changes models that use it too",
        )


def _told(asked: tuple[object, dict[str, Any]]) -> str:
    rule, options = asked
    told = "the model's own attention" if rule is None else repr(rule)
    return told + "".join(f", {key}={value!r}" for key, value in options.items())
