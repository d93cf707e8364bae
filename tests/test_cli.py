import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import attnkit
from attnkit.cli import main
from attnkit.errors import OptionError
from attnkit.learn import notebook


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The commands that would have started JupyterLab."""
    commands = []

    def start(command, folder):
        commands.append(command)
        return 0

    monkeypatch.setattr(notebook, "start", start)
    monkeypatch.chdir(tmp_path)
    return commands


def run(*arguments):
    return CliRunner().invoke(main, arguments)


def test_help_names_the_commands():
    told = run("--help")
    assert told.exit_code == 0
    assert "learn" in told.output


def test_version_is_that_of_the_package():
    assert attnkit.__version__ in run("--version").output


@pytest.mark.parametrize("wrong", [["lern"], ["learn", "--prot", "1"], ["learn", "--port", "70000"]])
def test_wrong_usage_exits_with_2(wrong):
    assert run(*wrong).exit_code == 2


def test_learn_copies_the_tutorial_and_opens_it(started, tmp_path):
    assert run("learn").exit_code == 0
    assert (tmp_path / "attention.ipynb").is_file()
    assert started[0][:4] == [
        sys.executable,
        "-m",
        "jupyterlab",
        "--LabApp.default_url=/lab/tree/attention.ipynb",
    ]


def test_learn_passes_the_port_and_the_browser_on(started):
    run("learn", "--port", "8899", "--no-browser")
    assert {"--port=8899", "--no-browser"} <= set(started[0])


def test_learn_says_how_to_stop(started):
    assert "Ctrl-C twice" in run("learn").output


@pytest.mark.messages
@pytest.mark.parametrize("absent", [["jupyterlab"], ["matplotlib", "tokenizers"]])
def test_learn_names_what_is_missing_and_the_extra_that_brings_it(started, monkeypatch, tmp_path, absent):
    for package in absent:
        monkeypatch.setitem(sys.modules, package, None)
    told = run("learn")
    assert told.exit_code == 1
    assert told.output == (
        f"Error: attnkit learn: the tutorial needs {', '.join(absent)}, not installed\n"
        '  fix: pip install "attnkit[notebook]"\n'
    )
    assert list(tmp_path.iterdir()) == started == []


def test_the_exit_status_of_jupyterlab_is_that_of_learn(started, monkeypatch):
    monkeypatch.setattr(notebook, "start", lambda command, folder: 3)
    assert run("learn").exit_code == 3


def test_a_refusal_is_printed_as_text_and_exits_with_1(started, monkeypatch):
    def refuse(folder, *, overwrite):
        raise OptionError(where="attnkit learn", what="no", fix="yes")

    monkeypatch.setattr(notebook, "lay_down", refuse)
    told = run("learn")
    assert told.exit_code == 1
    assert told.output == "Error: attnkit learn: no\n  fix: yes\n"


def test_the_installed_command_starts_jupyterlab_in_the_current_folder(tmp_path):
    # a stand-in for JupyterLab that tells how it was called
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/jupyterlab.py").write_text("import os, sys; print(os.getcwd(), *sys.argv[1:])")
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run(
        [Path(sys.executable).with_name("attnkit"), "learn", "--port", "8899"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "lib")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{folder} --LabApp.default_url=/lab/tree/attention.ipynb" in done.stdout
    assert "--port=8899" in done.stdout
