"""Builds attention.ipynb, and the modules that its cells define, from the chapters beside this file.

python book/build.py                            write the modules, execute the notebook, write it
python book/build.py --check                    exit 1 when a committed file is out of step with the chapters
python book/build.py --only 7-13 --out FILE     execute sections 1 to 13, write 7 to 13 to FILE, failed or not
"""

import argparse
import os
import re
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from package_cells import MODULES, OutOfStepError, module_source

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "attention.ipynb"
MAX_BYTES = 3_000_000
CELL_SECONDS = 300
KEPT_OUTPUTS = ("text/plain", "image/png")
# JupyterLab shows the first line of a folded output, so this one has to come before the answer.
FOLDED = "Answer (run this cell to unfold it)\n"


def chapters() -> dict[int, Path]:
    """The source file of each section, by its number."""
    return {int(path.name[:2]): path for path in sorted(Path(__file__).parent.glob("[0-9][0-9]_*.py"))}


def assemble(last: int | None = None) -> NotebookNode:
    """The notebook of sections 1 to `last` (None: all), without outputs; a cell's id is section-number."""
    notebook = nbformat.v4.new_notebook()
    for section, path in chapters().items():
        if last is not None and section > last:
            continue
        for number, cell in enumerate(jupytext.reads(path.read_text("utf-8"), fmt="py:percent").cells, 1):
            cell.id = f"{section:02d}-{number:02d}"
            cell.metadata = NotebookNode({k: v for k, v in cell.metadata.items() if k in ("jupyter", "tags")})
            if _is_folded(cell):
                cell.metadata.collapsed = True  # as JupyterLab writes it when it saves
            notebook.cells.append(cell)
    notebook.metadata.kernelspec = {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata.language_info = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}
    return notebook


def _is_folded(cell: NotebookNode) -> bool:
    return bool(cell.metadata.get("jupyter", {}).get("outputs_hidden"))


def section_of(cell: NotebookNode) -> int:
    """The number of the section that `cell` belongs to."""
    return int(cell.id.partition("-")[0])


class _Run(NotebookClient):
    """Executes a notebook in one kernel, and knows how long each section took."""

    def __init__(self, notebook: NotebookNode, folder: str) -> None:
        super().__init__(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            resources={"metadata": {"path": folder}},
        )
        self.seconds: dict[int, float] = {}
        self.current: NotebookNode | None = None
        self.on_cell_start = self._begin
        self.on_cell_executed = self._end

    def _begin(self, cell: NotebookNode, cell_index: int) -> None:
        self.current, self.begun = cell, time.perf_counter()

    def _end(self, cell: NotebookNode, cell_index: int, execute_reply: object) -> None:
        section = section_of(cell)
        self.seconds[section] = self.seconds.get(section, 0.0) + time.perf_counter() - self.begun


def execute(notebook: NotebookNode, *, forgiving_before: int = 0) -> dict[int, float]:
    """Run every cell from top to bottom in a new folder, fill in the outputs, return the seconds of each section.

    Args:
        notebook: what `assemble` gave; changed in place.
        forgiving_before: errors of earlier sections are told and passed over.

    Raises:
        OutOfStepError: a cell failed; the message holds its section, source and error.
    """
    for cell in notebook.cells:
        if section_of(cell) < forgiving_before and cell.cell_type == "code":
            cell.metadata.tags = [*cell.metadata.get("tags", ()), "raises-exception"]
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(notebook, folder)
        environment = os.environ | {"IPYTHONDIR": f"{folder}/.ipython"}
        try:
            run.execute(env=environment)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as failure:
            raise OutOfStepError(_told_failure(run.current, failure)) from None
    for cell in notebook.cells:
        if any(output.output_type == "error" for output in cell.get("outputs", ())):
            print(f"passed over an error in cell {cell.id}: {_error_of(cell)}", file=sys.stderr)
    _tidy(notebook)
    return run.seconds


def _told_failure(cell: NotebookNode | None, failure: Exception) -> str:
    if cell is None:
        return f"the kernel did not start: {failure}"
    told = _error_of(cell) or f"{type(failure).__name__}: {failure}"
    return f"section {section_of(cell)}, cell {cell.id} failed\n\n{cell.source}\n\n{told}"


def _error_of(cell: NotebookNode) -> str:
    traces = ["\n".join(o.traceback) for o in cell.get("outputs", ()) if o.output_type == "error"]
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(traces))


def _tidy(notebook: NotebookNode) -> None:
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            if "data" in output:
                output.data = NotebookNode({k: v for k, v in output.data.items() if k in KEPT_OUTPUTS})
        if _is_folded(cell) and cell.outputs:
            cell.outputs.insert(0, nbformat.v4.new_output("stream", name="stdout", text=FOLDED))


def sign(notebook: NotebookNode) -> None:
    """Record the version and the digest of the sources, by which `attnkit learn` knows a reader's changes."""
    from attnkit.learn.notebook import digest

    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    notebook.metadata.attnkit = {"version": version, "sources": digest(notebook.cells)}


def faults(notebook: NotebookNode) -> Iterator[str]:
    """What keeps the committed files from being what the chapters make, a sentence each."""
    for tag, (target, _) in MODULES.items():
        source = module_source(tag, notebook)
        if source is not None and (not target.is_file() or target.read_text("utf-8") != source):
            yield f"{target.relative_to(ROOT)} differs from the cells tagged {tag}"
    if NOTEBOOK.stat().st_size > MAX_BYTES:
        yield f"attention.ipynb has {NOTEBOOK.stat().st_size:,} bytes; at most {MAX_BYTES:,} are wanted"
    committed = nbformat.read(NOTEBOOK, as_version=4)
    sign(notebook)
    # JupyterLab adds to the rest of the metadata as soon as it opens a notebook
    if committed.metadata.get("attnkit") != notebook.metadata.attnkit:
        yield "attention.ipynb was built from other chapters or for another version"
    written = {cell.id: cell for cell in committed.cells}
    for cell in notebook.cells:
        other = written.pop(cell.id, None)
        if other is None:
            yield f"cell {cell.id} is missing in attention.ipynb"
        elif (other.cell_type, other.source, other.metadata) != (cell.cell_type, cell.source, cell.metadata):
            yield f"cell {cell.id} of attention.ipynb differs from its chapter"
    yield from (f"cell {name} of attention.ipynb is in no chapter" for name in written)
    if [cell.id for cell in committed.cells] != [cell.id for cell in notebook.cells]:
        yield "the cells of attention.ipynb have another order than the chapters"
    yield from _output_faults(committed)


def _output_faults(notebook: NotebookNode) -> Iterator[str]:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, 1):
        if cell.execution_count != count:
            yield f"cell {cell.id} was not executed in its turn"
        if _error_of(cell):
            yield f"cell {cell.id} ends in an error"
        if _is_folded(cell) and (len(cell.outputs) < 2 or cell.outputs[0].get("text") != FOLDED):
            yield f"cell {cell.id} answers a guess, and its folded output gives it away or is missing"


def check() -> None:
    """Compare the committed files with the chapters.

    Raises:
        OutOfStepError: they differ; the message says where, and what mends it.
    """
    found = list(faults(assemble()))
    if found:
        more = [f"and {len(found) - 10} more"] if len(found) > 10 else []
        raise OutOfStepError("\n".join([*found[:10], *more, "fix: make book"]))


def build(first: int = 1, last: int | None = None, out: Path = NOTEBOOK) -> None:
    """Execute sections 1 to `last` and write `first` to `last`; the whole notebook also writes the modules.

    Raises:
        OutOfStepError: a cell failed, or the cells of a module do not make one.
    """
    notebook = assemble(last)
    if out == NOTEBOOK:
        for tag, (target, _) in MODULES.items():
            source = module_source(tag, notebook)
            if source is not None:
                target.write_text(source, "utf-8")
    try:
        seconds = execute(notebook, forgiving_before=first)
    except OutOfStepError:
        if out != NOTEBOOK:
            nbformat.write(notebook, out)
        raise
    notebook.cells = [cell for cell in notebook.cells if section_of(cell) >= first]
    sign(notebook)
    nbformat.validate(notebook)
    nbformat.write(notebook, out)
    for section, taken in seconds.items():
        print(f"section {section:2d} {taken:6.1f} s")
    print(f"{out}: {sum(seconds.values()):.0f} s, {out.stat().st_size / 1e6:.2f} MB")


def sections(told: str) -> tuple[int, int]:
    """The first and the last section of `7-13`; of `8`, eight twice."""
    first, _, last = told.partition("-")
    return int(first), int(last or first)


def main() -> int:
    """Read the command line; 0 when all is well, 1 when something is out of step."""
    parser = argparse.ArgumentParser(description="Build attention.ipynb from the chapters in book/.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when out of step")
    parser.add_argument(
        "--only", metavar="7-13", type=sections, help="the sections to write, for instance 7-13 or 8"
    )
    parser.add_argument("--out", type=Path, help="where --only writes to")
    options = parser.parse_args()
    if (options.only is None) != (options.out is None):
        parser.error("--only and --out go together")
    try:
        if options.check:
            check()
        elif options.only:
            first, last = options.only
            build(first, last, options.out)
        else:
            build()
    except OutOfStepError as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
