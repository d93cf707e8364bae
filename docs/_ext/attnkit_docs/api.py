"""The pages of the reference: one a module, with every public name; autodoc fills them from the docstrings."""

import importlib
from inspect import cleandoc, ismodule

MODULES = {
    "attnkit": "Everything at hand",
    "attnkit.masks": "Masks",
    "attnkit.scores": "Score steps",
    "attnkit.positions": "Positions",
    "attnkit.normalizers": "Normalizers",
    "attnkit.recurrence": "Recurrences",
    "attnkit.caches": "Caches",
    "attnkit.converters": "Converters",
    "attnkit.inspection": "Inspection",
    "attnkit.mechanism": "Mechanisms as values",
    "attnkit.laws": "Laws",
    "attnkit.atlas": "What can be told of a mechanism",
    "attnkit.viewer": "Pictures",
    "attnkit.conformance": "Checks",
    "attnkit.models": "Models",
    "attnkit.hf": "Inside of transformers",
    "attnkit.lab": "Learning",
    "attnkit.lab.data": "Data to learn from",
}


def page(name: str) -> str:
    """Markdown of the page of one module: what it says of itself, then its public names."""
    module = importlib.import_module(name)
    named = ((public, getattr(module, public)) for public in module.__all__)
    names = [f".. {_kind(value)}:: {name}.{public}" for public, value in named if not ismodule(value)]
    body = "\n\n".join(names)
    return (
        f"# {MODULES[name]}\n\n`{name}`\n\n{cleandoc(module.__doc__ or '')}\n\n```{{eval-rst}}\n{body}\n```\n"
    )


def index() -> str:
    """Markdown of the page that leads to all of them."""
    rows = "\n".join(f"- [{title}]({name}.md): `{name}`" for name, title in MODULES.items())
    names = "\n".join(MODULES)
    return f"# Reference\n\n{rows}\n\n```{{toctree}}\n:hidden:\n{names}\n```\n"


def _kind(value: object) -> str:
    if isinstance(value, type):
        return "autoexception" if issubclass(value, Exception) else "autoclass"
    if isinstance(value, dict | tuple):
        return "py:data"  # its docstring would be that of all dictionaries
    return "autofunction" if callable(value) and hasattr(value, "__code__") else "autodata"
