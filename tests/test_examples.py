"""The examples, a few steps each on small files: the loss falls, and a run that stops goes on as if it had not."""

import importlib.util
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "examples"
WORDS = ["the", "cat", "sees", "a", "dog", "and", "the", "dog", "sees", "no", "cat"]


def text(folder):
    path = folder / "text.txt"
    path.write_text("To be, or not to be: that is the question.\n" * 400)
    return ["--text", str(path), "--prompt", "To be", "--letters", "5"]


def pairs(folder):
    path = folder / "pairs.tsv"
    lines = [" ".join(WORDS[start : start + 3 + start % 4]) for start in range(7)] * 30
    path.write_text("".join(f"{line}\t{line.upper()}\n" for line in lines))
    return ["--pairs", str(path), "--say", "the cat"]


def images(folder):
    return []  # those of scikit-learn


def example(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.mark.parametrize(("name", "given"), [("shakespeare", text), ("translate", pairs), ("digits", images)])
def test_an_example_learns_and_goes_on_as_if_it_had_never_stopped(name, given, tmp_path):
    options = given(tmp_path)

    def run(folder, steps):
        arguments = ["--steps", str(steps), "--folder", str(tmp_path / folder), *options]
        ran = CliRunner().invoke(example(name), arguments, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return load_file(tmp_path / folder / "checkpoint.safetensors")

    whole = run("whole", 16)
    assert whole["numbers.held_out"][-1] < whole["numbers.held_out"][0]
    assert (tmp_path / "whole" / "picture.png").stat().st_size > 1000
    run("parts", 7)
    parts = run("parts", 16)
    for kind in ("model.", "optimizer.", "random.", "numbers.loss"):
        names = [entry for entry in whole if entry.startswith(kind)]
        assert names
        assert all(torch.equal(parts[entry], whole[entry]) for entry in names)


@pytest.mark.parametrize(
    ("name", "given", "more", "said"),
    [
        ("shakespeare", text, ["--prompt", ""], "--prompt has 0 letters"),
        ("shakespeare", text, ["--prompt", "To be, Ω"], "has no 'Ω'"),
        ("shakespeare", text, ["--letters", "5000"], "1<=x<=1000"),
        ("translate", pairs, ["--say", "the cat " * 60], "at most 46 pieces"),
        ("digits", images, ["--patch", "3"], "patches of 3 pixels"),
        ("digits", images, ["--folder", __file__], "is a file"),
    ],
)
def test_what_would_fail_in_the_end_is_refused_at_the_start(name, given, more, said, tmp_path):
    arguments = [*given(tmp_path), "--folder", str(tmp_path / "run"), *more]
    ran = CliRunner().invoke(example(name), arguments, catch_exceptions=False)
    assert ran.exit_code in (1, 2)
    assert said in ran.output
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()
