"""`attnkit bench check`: the table of planted faults, on a repository of three mutants."""

import sys
import textwrap

import pytest
from click.testing import CliRunner

from attnkit.cli import main

pytestmark = pytest.mark.slow  # whole checks

MUTANTS = """
from torch import nn

from attnkit import Attention
from attnkit.conformance.bench import Mutant


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Linear(8, 8)

    def forward(self, x):
        return self.query(x) + x.mean(1, keepdim=True)


def layer(mechanism):
    return lambda: Attention(8, 2, mechanism=mechanism)


MUTANTS = (
    Mutant("causal/leak", "future-leak", Mean, {"d_in": 8, "causal": True}),
    Mutant("causal/nothing-wrong", "blind", layer("causal"), {"causal": True}),
)
CONTROLS = (
    Mutant("causal/right", None, layer("causal"), {"causal": True}),
    Mutant("full/called-right", None, layer("full"), {"causal": True}),
)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository whose tests have a leak that is found, one fault that is none, and a right and a wrong control."""
    (tmp_path / "tests/mutants").mkdir(parents=True)
    (tmp_path / "tests/__init__.py").touch()
    (tmp_path / "tests/mutants/__init__.py").write_text(textwrap.dedent(MUTANTS))
    for name in [name for name in sys.modules if name == "tests" or name.startswith("tests.")]:
        monkeypatch.delitem(sys.modules, name)  # those of this very run
    yield tmp_path
    for name in ("tests", "tests.mutants"):
        sys.modules.pop(name, None)


def run(*arguments):
    return CliRunner().invoke(main, ["bench", "check", "--level", "basic", *map(str, arguments)])


def test_what_is_found_ends_with_0_its_table_on_stdout_and_its_progress_on_stderr(folder):
    told = run("--folder", folder, "--seeds", 2, "--only", "future-leak")
    assert told.exit_code == 0
    assert told.stdout.startswith("| fault | planted | found | named | by the first name |\n")
    assert "\n| `future-leak` | 2 | 2 | 2 | 2 |\n" in told.stdout
    assert told.stderr == "1 of 2 checked\n2 of 2 checked\n"


def test_what_is_missed_ends_with_1_and_is_told_by_name(folder):
    told = run("--folder", folder, "--seeds", 1, "--only", "nothing-wrong")
    assert told.exit_code == 1
    assert "\nMissed: causal/nothing-wrong.\n" in told.stdout
    assert told.stderr.startswith("causal/nothing-wrong, seed 0: not found, nothing was found\n")


def test_a_right_control_that_is_accused_ends_with_1(folder):
    assert run("--folder", folder, "--seeds", 1, "--only", "causal/right").exit_code == 0
    told = run("--folder", folder, "--seeds", 1, "--only", "called-right")
    assert told.exit_code == 1
    assert "Right controls: 1 checked, 1 accused." in told.stdout


def test_the_mutants_of_this_repository_are_found_where_nothing_else_is_said():
    told = run("--seeds", 1, "--only", "softmax-over-queries")
    assert told.exit_code == 0
    assert "| `softmax-wrong-axis` |" in told.stdout


@pytest.mark.messages
def test_a_folder_without_mutants_and_a_name_that_none_has_end_with_2(tmp_path):
    nothing = run("--folder", tmp_path)
    assert nothing.exit_code == 2
    assert "holds none\n  fix: git clone the repository, and pip install -e . in it" in nothing.stderr
    unknown = run("--only", "future-leek")
    assert unknown.exit_code == 2
    assert "there is no mutant 'future-leek'\n  fix: did you mean 'future-leak'?" in unknown.stderr
