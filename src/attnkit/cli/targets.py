"""What a command is pointed at: `package.module:NAME` or `file.py:NAME`, and what makes it.

The code is imported, as Python imports it; no file is unpickled.
"""

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from attnkit.errors import OptionError, unknown_name

_WORDS = {"true": True, "false": False, "none": None}
_WHERE = "attnkit check"


def object_of(place: str) -> Any:
    """What stands at a place.

    Raises:
        OptionError: it is no place, or importing it fails.
        UnknownNameError: nothing there has this name.
    """
    source, colon, name = place.rpartition(":")
    if not colon or not source or not name:
        raise OptionError(
            where=_WHERE,
            what=f"a target is MODULE:NAME or FILE.py:NAME; got {place!r}",
            fix="my_model.py:Attention",
        )
    found: Any = _imported(source)
    for part in name.split("."):
        if not hasattr(found, part):
            raise unknown_name(_WHERE, "name", part, [one for one in vars(found) if not one.startswith("_")])
        found = getattr(found, part)
    return found


def _imported(source: str) -> ModuleType:
    is_file = source.endswith(".py")
    if is_file and not Path(source).is_file():
        raise OptionError(
            where=_WHERE, what=f"there is no file {source}", fix="attnkit check path/to/file.py:NAME"
        )
    folder = str(Path(source).resolve().parent if is_file else Path.cwd())
    sys.path.insert(0, folder)  # for what stands beside it
    try:
        return _of_file(Path(source)) if is_file else importlib.import_module(source)
    except Exception as trouble:  # whatever somebody's code raises
        raise OptionError(
            where=_WHERE,
            what=f"importing {source} raised {type(trouble).__name__}: {trouble}",
            fix=f"python {source} should run first"
            if is_file
            else f'python -c "import {source}" should run first',
        ) from trouble
    finally:
        sys.path.remove(folder)


def _of_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and inspect look here
    spec.loader.exec_module(module)
    return module


def arguments_of(option: str, settings: Iterable[str], *, as_text: bool = False) -> dict[str, Any]:
    """NAME=VALUE, by name: Python's literals, true, false and none, and text.

    Raises:
        OptionError: a setting is no NAME=VALUE.
    """
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not name or not text:
            raise OptionError(
                where=option, what=f"a setting is NAME=VALUE; got {setting!r}", fix=f"{option} num_heads=4"
            )
        found[name] = text if as_text else _value(text)
    return found


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def target_of(found: Any, arguments: Mapping[str, Any], *, seed: int) -> Any:
    """What is checked: what a class or a function makes of the arguments, or the thing itself.

    Raises:
        OptionError: making it fails.
    """
    if isinstance(found, nn.Module) or (
        not isinstance(found, type) and _is_attention(found) and not arguments
    ):
        return found
    if not callable(found):
        raise OptionError(
            where=_WHERE,
            what=f"a target is a class, a function or a module; got a {type(found).__name__}",
            fix="attnkit check my_model.py:Attention --arg d_in=24",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return found(**arguments)
        except Exception as trouble:  # whatever somebody's code raises
            raise OptionError(
                where=_WHERE,
                what=f"{_called(found, arguments)} raised {type(trouble).__name__}: {trouble}",
                fix="give what it is made of by --arg NAME=VALUE, once for each",
            ) from trouble


def _is_attention(found: Any) -> bool:
    """Whether it takes query, key and value: three arguments that have no default."""
    if not callable(found):
        return False
    parameters = inspect.signature(found).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.default is one.empty and one.kind in kinds for one in parameters) == 3


def _called(found: Any, arguments: Mapping[str, Any]) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"{getattr(found, '__name__', found)}({given})"
