"""Values of options, as they are written in a terminal: `window=5`, `grid=(2,4)`, `mask="causal & window(3)"`.

    value = number | true | false | none | text | (value, ...) | NAME | NAME(value, ..., name=value)

A NAME is one of attnkit.masks or attnkit.positions. Masks combine with & | ~ as in Python; a shell wants quotes around
these.
"""

import ast
from collections.abc import Iterable
from typing import Any

from attnkit import masks, positions
from attnkit.errors import AttentionError, OptionError, unknown_name
from attnkit.mechanism import Mechanism, Option

_WORDS = {"true": True, "false": False, "none": None}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "None": "none"}
_NAMES: dict[str, Any] = {
    name: getattr(module, name) for module in (masks, positions) for name in module.__all__ if name != "where"
}


def options_of(mechanism: Mechanism, settings: Iterable[str]) -> dict[str, Any]:
    """The options of a mechanism: those of its first example, and what the `settings` NAME=VALUE say instead.

    Raises:
        OptionError: a setting is no NAME=VALUE, or a value is of another kind.
        UnknownNameError: a value holds a name that nothing goes by.
    """
    known = {option.name: option for option in mechanism.options}
    chosen = dict(mechanism.examples[0])
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name:
            example = next((f"{given}={value!r}" for given, value in chosen.items()), "NAME=VALUE")
            raise OptionError(
                where="--set", what=f"a setting is NAME=VALUE; got {setting!r}", fix=f"--set {example}"
            )
        name = name.strip()
        chosen[name] = value_of(known[name], text.strip(), chosen.get(name)) if name in known else text
    return chosen


def value_of(option: Option, text: str, example: object = None) -> Any:
    """What `text` means as the value of an option; `example` is a value that would do.

    Raises:
        OptionError: it is of another kind.
        UnknownNameError: it holds a name that nothing goes by.
    """
    kinds = [kind.strip() for kind in option.kind.split("|")]
    simple = set(kinds) <= set(_KINDS)
    word = text.lower()
    if "str" in kinds and word not in _WORDS:
        return text.strip("\"'")
    try:
        value = _WORDS[word] if word in _WORDS else ast.literal_eval(text) if simple else _parsed(text)
    except AttentionError:
        raise
    except (SyntaxError, ValueError, TypeError) as error:
        raise _no_value(option, text, kinds, example) from error
    if simple and not _is_one_of(value, kinds):
        raise _no_value(option, text, kinds, example)
    return (
        float(value) if "float" in kinds and isinstance(value, int) and not isinstance(value, bool) else value
    )


def _parsed(text: str) -> Any:
    return _value(ast.parse(text, mode="eval").body)


def _is_one_of(value: object, kinds: list[str]) -> bool:
    if isinstance(value, bool) or value is None:
        return ("bool" if value is not None else "None") in kinds
    return (isinstance(value, int) and bool({"int", "float"} & set(kinds))) or (
        isinstance(value, float) and "float" in kinds
    )


def _no_value(option: Option, text: str, kinds: list[str], example: object) -> OptionError:
    takes = " or ".join(_KINDS.get(kind, f"a {kind}") for kind in kinds)
    meaning = f"; it is {option.meaning}" if option.meaning else ""
    usual = example if example is not None or option.required else option.default
    return OptionError(
        where=option.name,
        what=f"{text!r} is not {takes}{meaning}",
        fix=f"--set {option.name}={usual!r}",
    )


def _value(node: ast.expr) -> Any:
    """The value of an expression.

    Raises:
        ValueError: it is none that is known here.
    """
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return tuple(map(_value, parts))
        case ast.UnaryOp(op=ast.USub(), operand=part):
            return -_value(part)
        case ast.UnaryOp(op=ast.Invert(), operand=part):
            return ~_value(part)
        case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
            return _value(left) & _value(right)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _value(left) | _value(right)
        case ast.Name(id=name):
            return _named(name)
        case ast.Call(func=ast.Name(id=name), args=parts, keywords=named):
            return _named(name)(*map(_value, parts), **{str(part.arg): _value(part.value) for part in named})
        case _:
            raise ValueError(ast.unparse(node))


def _named(name: str) -> Any:
    if name.lower() in _WORDS:
        return _WORDS[name.lower()]
    if name not in _NAMES:
        raise unknown_name("--set", "value", name, _NAMES)
    return _NAMES[name]
