"""The page "Add a mechanism", followed to the letter: its files are written where a package has them, and tried."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/adding-a-mechanism.md").read_text("utf-8")
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))
NAME = "scalable_softmax"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Runs a command where the files of the page are, known by an entry point as the page has it."""
    site = tmp_path_factory.mktemp("site")
    for name, text in FILES.items():
        (site / name).write_text(text, "utf-8")
    told = site / "my_package-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(f"[attnkit.mechanisms]\n{NAME} = {NAME}:MECHANISM\n")

    def run(*command):
        environment = os.environ | {"PYTHONPATH": str(site)}
        return subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, cwd=ROOT, env=environment
        )

    run.site = site
    return run


def said(run, *command):
    """What pytest says at the end."""
    return run("-m", "pytest", "-q", "-p", "no:cacheprovider", *command).stdout.splitlines()[-1]


def test_the_page_holds_a_mechanism_and_its_tests():
    assert sorted(FILES) == [f"{NAME}.py", f"test_{NAME}.py"]


@pytest.mark.slow
def test_its_mechanism_obeys_every_law(installed):
    assert re.fullmatch(
        r"\d+ passed, \d+ deselected in .*", said(installed, "tests/test_laws.py", "-k", NAME)
    )


@pytest.mark.slow
def test_its_mechanism_is_shown(installed):
    told = installed("-c", "from attnkit.cli import main; main()", "show", NAME).stdout
    assert "steepness  learned, 8. How fast scores grow." in told


@pytest.mark.slow
def test_its_tests_pass_and_fail_where_the_page_says_so(installed):
    own = str(installed.site / f"test_{NAME}.py")
    assert said(installed, own).startswith("2 passed")
    file = installed.site / f"{NAME}.py"
    file.write_text(FILES[f"{NAME}.py"].replace("q_pos + 1", "q_pos + 2"))
    assert said(installed, own).startswith("2 failed")
    file.write_text(FILES[f"{NAME}.py"])


@pytest.mark.slow
def test_its_files_are_in_the_style_of_this_project(installed):
    ruff = Path(sys.executable).with_name("ruff")
    for check in (["check"], ["format", "--check"]):
        files = [str(installed.site / name) for name in FILES if not name.startswith("test_")]
        done = subprocess.run(
            [ruff, *check, "--config", str(ROOT / "pyproject.toml"), *files], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout
