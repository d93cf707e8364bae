"""Docstrings, which are written to be read as they are, as the reStructuredText that autodoc reads.

An indented formula is a literal block, a single backtick is code, and an asterisk is an asterisk.
"""

import ast
import inspect
import re
import textwrap
from typing import Any

_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Example|Examples|Yields):$")
_ASTERISK = re.compile(r"(`[^`]*`)|\*")


def as_rst(app: Any, what: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    """Change the `lines` of a docstring in place; an event of autodoc, before napoleon reads the sections."""
    changed: list[str] = []
    section, literal = "", False
    for number, line in enumerate(lines):
        if line and not line[0].isspace():
            section = line.rstrip(":") if _SECTION.match(line) else ""
            literal = False
        begins = line.startswith("    ") and number > 0 and not lines[number - 1].strip()
        if begins and not section and not literal:
            changed += [".. code-block:: text", ""]
            literal = True
        verbatim = literal or section.startswith("Example")
        changed.append(line if verbatim else _ASTERISK.sub(lambda found: found[1] or r"\*", line))
    lines[:] = changed


def is_borrowed(app: Any, what: str, name: str, subject: Any, skip: bool, options: Any) -> bool | None:
    """Whether to leave a member of a class out: a function of elsewhere that is the default of a field."""
    elsewhere = inspect.isroutine(subject) and "." not in getattr(subject, "__qualname__", ".")
    borrowed = elsewhere or not str(getattr(subject, "__module__", None) or "attnkit").startswith("attnkit")
    return True if what == "class" and borrowed else None


def as_written(
    app: Any, what: str, name: str, subject: Any, options: Any, signature: str, returns: str
) -> Any:
    """The signature with the types as they stand in the source: `query: Query`, and not what Query stands for."""
    function = subject.__init__ if inspect.isclass(subject) else subject
    try:
        source = textwrap.dedent(inspect.getsource(function))
        node = ast.parse(source).body[0]
    except (OSError, TypeError, SyntaxError):
        return None
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    takes = node.args
    listed = takes.posonlyargs or takes.args
    if listed and listed[0].arg in ("self", "cls"):
        listed.pop(0)
    gives = ast.unparse(node.returns) if node.returns and not inspect.isclass(subject) else None
    return f"({ast.unparse(takes)})", gives
