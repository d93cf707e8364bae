"""What keeps the repository as it is meant to be: small, flat, documented, and true to its own files."""

import ast
import graphlib
import importlib
import re
import subprocess
import sys
import tomllib
import zipfile
from inspect import ismodule
from pathlib import Path

import grimp
import pytest
import torch
from importlinter.cli import lint_imports
from packaging.requirements import Requirement

import attnkit
from attnkit.layers.teaching import attend

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "src/attnkit").rglob("*.py"))
PROGRAMS = [*PACKAGE, *sorted((ROOT / "benchmarks").glob("*.py")), *sorted((ROOT / "book").glob("[a-z]*.py"))]
PROGRAMS += sorted((ROOT / "docs/_ext").rglob("*.py"))
PACKAGES = [
    "attnkit",
    "attnkit.atlas",
    "attnkit.caches",
    "attnkit.conformance",
    "attnkit.converters",
    "attnkit.hf",
    "attnkit.inspection",
    "attnkit.lab",
    "attnkit.lab.data",
    "attnkit.layers",
    "attnkit.laws",
    "attnkit.learn",
    "attnkit.masks",
    "attnkit.mechanism",
    "attnkit.models",
    "attnkit.models.loading",
    "attnkit.normalizers",
    "attnkit.positions",
    "attnkit.recurrence",
    "attnkit.scores",
    "attnkit.viewer",
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OPTIONAL = "matplotlib jupyterlab IPython ipykernel tokenizers safetensors gguf transformers ray sphinx click beartype"

Function = ast.FunctionDef | ast.AsyncFunctionDef


def named(path):
    return str(path.relative_to(ROOT))


def functions(path):
    return [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, Function)]


def arguments(function):
    """What a caller gives."""
    told = function.args
    stars = [argument for argument in (told.vararg, told.kwarg) if argument]
    listed = [*told.posonlyargs, *told.args, *told.kwonlyargs, *stars]
    return [argument for argument in listed if argument.arg not in ("self", "cls")]


def required(function):
    """What a caller has to give."""
    told = function.args
    optional = [a for a, value in zip(told.kwonlyargs, told.kw_defaults, strict=True) if value]
    positional = [*told.posonlyargs, *told.args]
    optional += positional[len(positional) - len(told.defaults) :] if told.defaults else []
    return [argument for argument in arguments(function) if argument not in optional]


def public(tree):
    """The functions and classes that users can name, methods too."""
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


@pytest.mark.parametrize("path", PROGRAMS, ids=named)
def test_a_file_has_at_most_300_lines(path):
    assert len(path.read_text("utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", PROGRAMS, ids=named)
def test_a_function_has_at_most_40_lines(path):
    assert [f.name for f in functions(path) if f.end_lineno - f.lineno + 1 > 40] == []


@pytest.mark.parametrize("path", PROGRAMS, ids=named)
def test_a_function_takes_at_most_7_arguments(path):
    # what is called by name, with the parts of a mechanism or the settings of a model: 7 that must be given
    named_parts = path.parent.name in ("mechanisms", "mechanism", "models") or path.name == "attention.py"
    counted = required if named_parts else arguments
    assert [f.name for f in functions(path) if len(counted(f)) > 7] == []


@pytest.mark.parametrize("path", PACKAGE, ids=named)
def test_everything_public_has_a_docstring(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree) or not tree.body
    assert [node.name for node in public(tree) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", PACKAGE, ids=named)
def test_every_public_argument_and_result_is_annotated(path):
    for function in public(ast.parse(path.read_text("utf-8"))):
        if isinstance(function, Function):
            bare = [
                a.arg for a in arguments(function) if a.annotation is None and a.arg not in ("self", "cls")
            ]
            assert (function.name, bare, function.returns is None) == (function.name, [], False)


@pytest.mark.parametrize("path", [path for path in PACKAGE if path.parent.name != "mechanisms"], ids=named)
def test_no_function_has_the_name_of_a_module_beside_it(path):
    # a mechanism's file holds the function that it is named after, and nobody imports it past its value
    modules = {other.stem for other in path.parent.glob("*.py")} | {
        f.parent.name for f in path.parent.glob("*/__init__.py")
    }
    tree = ast.parse(path.read_text("utf-8"))
    assert [
        f.name for f in public(tree) if isinstance(f, Function) and f in tree.body and f.name in modules
    ] == []


def test_imports_only_go_down(capsys):
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0, (
        capsys.readouterr().out
    )


def test_imports_make_no_cycle():
    graph = grimp.build_graph("attnkit", cache_dir=None, exclude_type_checking_imports=True)
    reads = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    graphlib.TopologicalSorter(reads).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("name", PACKAGES)
def test_all_names_everything_that_a_package_brings(name):
    package = importlib.import_module(name)
    listed = getattr(package, "__all__", [])
    own = {
        key: value for key, value in vars(package).items() if not key.startswith("_") and not ismodule(value)
    }
    brought = {key for key, value in own.items() if str(getattr(value, "__module__", "")).startswith(name)}
    assert sorted(brought - set(listed)) == []


@pytest.mark.parametrize("name", PACKAGES)
def test_all_names_only_what_is_there(name):
    package = importlib.import_module(name)
    listed = getattr(package, "__all__", [])
    assert [key for key in listed if not hasattr(package, key)] == []
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize("module", ["attnkit", "attnkit.cli"])
def test_importing_brings_in_nothing_optional(module):
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    unwanted = set(OPTIONAL.split()) - ({"click"} if module == "attnkit.cli" else set())
    assert unwanted & set(done.stdout.split()) == set()


def test_the_newest_entry_of_the_changelog_is_the_version():
    newest = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == PROJECT["version"] == attnkit.__version__


def test_the_citation_names_the_version():
    cited = re.search(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert cited is not None
    assert cited[1] == attnkit.__version__


def test_the_readme_lists_the_sections_by_their_titles():
    told = re.findall(r"^\d+\. (.*)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    chapters = sorted((ROOT / "book").glob("[0-9]*.py"))
    titles = [re.search(r"^# ## \d+\. (.*)$", c.read_text("utf-8"), re.MULTILINE)[1] for c in chapters]
    assert len(told) == len(titles) == 17
    assert [t for t, title in zip(told, titles, strict=True) if not t.startswith(title)] == []


def test_the_example_of_the_readme_runs(capsys):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    names = {}
    exec(code[1], names)
    assert capsys.readouterr().out.startswith(
        "torch.Size([2, 6, 768])\nRule(mask=(causal & lengths([6, 4])))"
    )
    assert names["last"].shape == (2, 12, 1, 6)


def test_constraints_pin_every_direct_dependency():
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    asked = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    for requirement in map(Requirement, asked):
        if requirement.name != "attnkit":
            assert pins.get(requirement.name, "no pin") in requirement.specifier, requirement


def test_no_file_points_outside_the_repository():
    folders = ("src", "tests", "book", "docs", "benchmarks", "examples", ".ci", "frontend")
    inside = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix not in (".pyc", ".png")]
    built = ROOT / "docs/build"
    files = [p for p in [*ROOT.iterdir(), *inside] if p.is_file() and built not in p.parents]
    outside = re.compile("|".join(("[.][.]/shared", "/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/")))
    assert [named(p) for p in files if outside.search(p.read_text("utf-8"))] == []


def test_the_notebook_has_at_most_3_megabytes():
    assert (ROOT / "attention.ipynb").stat().st_size <= 3_000_000


def test_memory_that_nobody_wrote_is_nan():
    assert torch.empty(3, 5).isnan().all()


def test_shapes_are_checked_in_the_run_with_the_hook_and_only_there(request):
    # key has one head and value has two: the product broadcasts, but the signature promises one number of both
    query, key, value = torch.ones(2, 5, 4), torch.ones(1, 7, 4), torch.ones(2, 7, 6)
    if request.config.getoption("--jaxtyping-packages") is None:
        assert attend(query, key, value).shape == (2, 5, 6)
    else:
        with pytest.raises(TypeError, match="kv_heads"):
            attend(query, key, value)


@pytest.mark.slow
def test_the_wheel_holds_the_tutorial_and_says_that_it_is_typed(tmp_path):
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {"attnkit/learn/attention.ipynb", "attnkit/py.typed"} <= inside
    assert [name for name in inside if not name.startswith("attnkit")] == []
