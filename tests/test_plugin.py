"""A package that adds one mechanism, by one file and an entry point: installed, it is like one of attnkit's own."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "examples/plugin-kerple"

ORACLE = """
import math, torch, attnkit
torch.manual_seed(0)
query, key, value = 3 * torch.randn(3, 1, 2, 7, 4, dtype=torch.float64)
parts = {name: torch.randn(2, dtype=torch.float64) for name in ("strength", "rate")}
context = attnkit.find("kerple")(query, key, value, parts=parts)
for head in range(2):
    r1, r2 = (math.log(1 + math.exp(parts[name][head])) for name in ("strength", "rate"))
    for q in range(7):
        powers = [
            math.exp(float(query[0, head, q] @ key[0, head, k]) / 2 - r1 * math.log(1 + r2 * (q - k)))
            for k in range(q + 1)
        ]
        expected = sum(p * value[0, head, k] for k, p in enumerate(powers)) / sum(powers)
        torch.testing.assert_close(context[0, head, q], expected)
print("it is the paper's")
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Runs a command where the package is installed."""
    target = tmp_path_factory.mktemp("site")
    flags = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(target)]
    build = [sys.executable, "-m", "pip", "install", *flags, str(PLUGIN)]
    subprocess.run(build, check=True, capture_output=True, cwd=target)
    environment = os.environ | {"PYTHONPATH": str(target), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def run(*command, cwd=ROOT):
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=cwd, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_package_is_one_file_and_one_entry_point():
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["entry-points"] == {"attnkit.mechanisms": {"kerple": "attnkit_kerple:MECHANISM"}}
    assert [path.name for path in PLUGIN.glob("*.py")] == ["attnkit_kerple.py"]


@pytest.mark.slow
def test_it_is_in_the_catalogue_and_computes_what_the_paper_says(installed):
    assert installed("-c", ORACLE) == "it is the paper's\n"


@pytest.mark.slow
def test_it_is_a_layer_whose_numbers_are_learned(installed):
    code = (
        "import torch, attnkit; layer = attnkit.Attention(24, 4, mechanism='kerple'); "
        "layer(3 * torch.randn(2, 7, 24)).sum().backward(); print(bool(layer.strength.grad.abs().min() > 0))"
    )
    assert installed("-c", code) == "True\n"


@pytest.mark.slow
def test_it_is_listed_and_shown(installed):
    command = ("-c", "from attnkit.cli import main; main()")
    (told,) = [m for m in json.loads(installed(*command, "list", "--json")) if m["name"] == "kerple"]
    assert told["package"] == "attnkit-kerple"
    shown = installed(*command, "show", "kerple")
    assert "of the package attnkit-kerple" in shown
    assert "strength  learned, 8. How much distance takes away." in shown
    assert "causal  certain values of strength" in shown


@pytest.mark.slow
def test_the_unchanged_law_tests_try_it(installed):
    told = installed("-m", "pytest", "tests/test_laws.py", "-k", "kerple", "-q", "-p", "no:cacheprovider")
    assert " passed" in told
    assert (
        int(told.rpartition(" passed")[0].rsplit(None, 1)[-1]) >= 10
    )  # four of its own, and the universal ones


@pytest.mark.slow
def test_the_benchmark_measures_it(installed):
    told = installed("benchmarks/mechanisms.py", "--only", "kerple", "--length", "64", "--runs", "1")
    row = told.splitlines()[-1].split()
    assert row[0] == "kerple"
    assert all(float(cell) > 0 for cell in row[1:])
