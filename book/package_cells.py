"""The modules of attnkit that the tutorial's cells define.

A cell tagged `package` is a piece of attnkit/layers/teaching.py, one tagged `package:encoder` of
attnkit/learn/encoder.py. A module imports what the notebook imports, less what it does not use.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "package": (
        ROOT / "src/attnkit/layers/teaching.py",
        "The attention that the tutorial builds, in plain PyTorch.",
    ),
    "package:encoder": (
        ROOT / "src/attnkit/learn/encoder.py",
        "The encoder block that the tutorial fills with a trained model's numbers.",
    ),
}


class OutOfStepError(Exception):
    """The committed files, or the notebook's run, are not what the chapters say."""


def module_source(tag: str, notebook: NotebookNode) -> str | None:
    """The module made of the cells tagged `tag`, formatted; None when no cell is."""
    target, summary = MODULES[tag]
    pieces = [cell.source for cell in _tagged(notebook, tag)]
    if not pieces:
        return None
    own = set(_defined(pieces))
    imports = {line for name, line in _imports(notebook.cells) if name not in own}
    if tag != "package":
        borrowed = set(_defined(cell.source for cell in _tagged(notebook, "package"))) - own
        imports |= {f"from attnkit.layers.teaching import {name}" for name in borrowed}
    docstring = f'"""{summary}\n\nWritten by book/build.py from the tutorial\'s cells: edit those.\n"""'
    text = "\n\n\n".join([docstring, "\n".join(sorted(imports)), *pieces]) + "\n"
    text = _ruff(target, text, "check", "--fix", "--quiet", "--select", "F401,F811,I,E9")
    return _ruff(target, text, "format", "--quiet")


def _tagged(notebook: NotebookNode, tag: str) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]


def _defined(sources: Iterable[str]) -> Iterator[str]:
    for source in sources:
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.FunctionDef | ast.ClassDef):
                yield statement.name
            elif isinstance(statement, ast.Assign):
                yield from (target.id for target in statement.targets if isinstance(target, ast.Name))


def _imports(cells: Iterable[NotebookNode]) -> Iterator[tuple[str, str]]:
    for cell in cells:
        if cell.cell_type != "code":
            continue
        for statement in ast.parse(cell.source).body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                origin = f"from {statement.module} " if isinstance(statement, ast.ImportFrom) else ""
                for alias in statement.names:
                    renamed = f" as {alias.asname}" if alias.asname else ""
                    yield alias.asname or alias.name, f"{origin}import {alias.name}{renamed}"


def _ruff(target: Path, text: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(target), "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise OutOfStepError(f"the cells of {target.name} do not make a module:\n{done.stdout}{done.stderr}")
    return done.stdout
