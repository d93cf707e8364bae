"""Code that is run while the pages are written, and printed with what it answers, as Python's prompt does."""

import ast
import contextlib
import io
import re
from collections.abc import Mapping
from typing import Any

import torch

import attnkit
from attnkit.masks import Mask


def answered(code: str) -> str:
    """The statements of `code` behind prompts, each followed by what it prints; an error in one is raised."""
    names: dict[str, Any] = {"__name__": "example"}
    lines = code.splitlines()
    shown: list[str] = []
    torch.manual_seed(0)
    for statement in ast.parse(code).body:
        source = lines[statement.lineno - 1 : statement.end_lineno]
        shown += [("... " if number else ">>> ") + line for number, line in enumerate(source)]
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            exec(compile("\n".join(source) + "\n", "<example>", "single"), names)
        shown += told.getvalue().rstrip().splitlines()
    return "\n".join(shown)


def written(name: str, options: Mapping[str, Any], *, number: int = 0) -> str:
    """Options as the arguments of a call: `window=3`; those that cannot be written come from `examples[number]`."""
    texts = {option: _literal(value) for option, value in options.items()}
    if None in texts.values():
        return f'**ak.find("{name}").examples[{number}]'
    return ", ".join(f"{option}={text}" for option, text in texts.items())


def told(options: Mapping[str, Any]) -> str:
    """Options in a title."""
    return ", ".join(f"{name}={value!r}" for name, value in options.items()) or "as it is by default"


def _literal(value: Any) -> str | None:
    """Python that makes the value again, if there is any that is short."""
    text = repr(value)
    if isinstance(value, Mask):
        text = re.sub(r"\b([a-z_]+)\b(?!=)", r"ak.masks.\1", text)
    try:
        made = eval(text, {"ak": attnkit})
    except (SyntaxError, NameError, AttributeError, TypeError, ValueError):
        return None
    return text if repr(made) == repr(value) else None
