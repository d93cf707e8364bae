"""`attnkit check TARGET`: what it is pointed at, what it prints, and how it ends."""

import json
import subprocess
import sys
import textwrap

import pytest
from click.testing import CliRunner

from attnkit.cli import main
from attnkit.cli.targets import arguments_of, object_of, target_of
from attnkit.errors import OptionError, UnknownNameError

pytestmark = pytest.mark.slow  # whole checks

CODE = """
import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    def __init__(self, d_in, num_heads, causal=True):
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.query, self.key, self.value = (nn.Linear(d_in, d_in) for _ in range(3))
        self.output = nn.Linear(d_in, d_in)

    def forward(self, x):
        parts = (self.query(x), self.key(x), self.value(x))
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        context = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.output(context.transpose(1, 2).flatten(2))


class Loud(Attention):
    def forward(self, x):
        print("loud")
        return super().forward(x)


def make(num_heads=4):
    return Attention(24, num_heads)


def attend(query, key, value):
    return functional.scaled_dot_product_attention(query, key, value)


def by_length(module, x, memory, keep, cache):
    return module(x.transpose(0, 1).transpose(0, 1))


class Swapped(Attention):
    def forward(self, x):
        return super().forward(x.transpose(0, 1)).transpose(0, 1)


def swap(module, x, memory, keep, cache):
    return module(x.transpose(0, 1)).transpose(0, 1)


ready = Attention(24, 4)
number = 3
"""
SIZES = ("--arg", "d_in=24", "--arg", "num_heads=4")


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A file, in the folder that commands are run in."""
    (tmp_path / "some_attention.py").write_text(textwrap.dedent(CODE))
    (tmp_path / "broken_attention.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    yield "some_attention.py"
    sys.modules.pop("some_attention", None)


def run(*arguments):
    return CliRunner().invoke(main, ["check", *arguments])


def test_right_attention_ends_with_0(code):
    told = run(f"{code}:Attention", *SIZES, "--causal")
    assert told.exit_code == 0
    assert told.output.startswith("Attention: causal, 4 heads, scale 1/sqrt(head_dim)\n")
    assert "checks passed, nothing was found" in told.output


def test_a_fault_is_named_with_its_sentence_and_lesson_and_ends_with_1(code):
    told = run(f"{code}:Attention", *SIZES, "--arg", "causal=false", "--causal")
    assert told.exit_code == 1
    assert "\nfuture-leak: output" in told.output
    assert "\n  lesson: attention.ipynb" in told.output
    assert "\nfound by\n" in told.output


def test_a_package_is_found_where_the_command_is_run(code):
    assert run("some_attention:Attention", *SIZES, "--causal").exit_code == 0


def test_an_installed_package_is_found():
    assert (
        run(
            "attnkit:Attention", "--arg", "d_model=24", "--arg", "num_heads=4", "--arg", "mechanism=causal"
        ).exit_code
        == 0
    )


@pytest.mark.parametrize("name", ["make", "ready", "attend"])
def test_a_function_that_makes_one_a_module_and_a_function_of_heads_are_targets(code, name):
    assert run(f"{code}:{name}").exit_code == 0


def test_arguments_make_the_target(code):
    told = run(f"{code}:make", "--arg", "num_heads=6", "--causal", "--num-heads", "6")
    assert "6 heads" in told.output


def test_json_can_be_read_whatever_the_target_prints(code):
    told = run(f"{code}:Loud", *SIZES, "--causal", "--json")
    read = json.loads(told.output)
    assert (told.exit_code, read["ok"], read["fault"]) == (0, True, None)


def test_a_fault_ends_with_1_in_json_too(code):
    told = run(f"{code}:attend", "--causal", "--json")
    assert (told.exit_code, json.loads(told.output)["fault"]) == (1, "future-leak")


def test_what_is_said_reaches_the_checks(code):
    told = run(f"{code}:Attention", *SIZES, "--causal", "--window", "3")
    assert (told.exit_code, "window-off-by-one" in told.output) == (1, True)


def test_a_check_that_was_said_to_fail_is_no_fault(code):
    told = run(f"{code}:attend", "--causal", "--expect", "influence=it reads all by design")
    assert told.exit_code == 0
    assert "failed as was said\n  influence" in told.output


def test_a_call_of_ones_own_is_taken_from_a_file(code):
    assert run(f"{code}:Swapped", *SIZES, "--causal").exit_code == 1
    assert run(f"{code}:Swapped", *SIZES, "--causal", "--call", f"{code}:swap").exit_code == 0


def test_projections_are_told_by_role(code):
    roles = [
        part for role in ("query", "key", "value", "output") for part in ("--projection", f"{role}={role}")
    ]
    assert run(f"{code}:Attention", *SIZES, "--causal", *roles).exit_code == 0


def test_a_mechanism_is_the_reference(code):
    equal = run(f"{code}:Attention", *SIZES, "--causal", "--reference", "causal")
    assert equal.exit_code == 0
    assert ", compared with causal\n" in equal.output
    window = ("--reference", "sliding_window", "--reference-option", "window=3")
    other = run(f"{code}:Attention", *SIZES, "--causal", *window)
    assert other.exit_code == 1
    assert "reference-mismatch: the output is not that of sliding_window: " in " ".join(other.output.split())


REFUSED = [
    (("some_attention.py:ready", "--reference", "casual"), "did you mean 'causal'?"),
    (("some_attention.py:ready", "--reference", "sliding_window"), "window"),
    (
        ("some_attention.py:ready", "--reference", "sink"),
        "these weights of sink find no partner in Attention",
    ),
    (
        ("some_attention.py:ready", "--reference-option", "window=3"),
        "fix: --reference sliding_window --reference",
    ),
    (("some_attention.py",), "a target is MODULE:NAME or FILE.py:NAME; got 'some_attention.py'"),
    (("other.py:Attention",), "there is no file other.py"),
    (("some_attention.py:Atention",), "did you mean 'Attention'?"),
    (("some_attention.py:number",), "got a int"),
    (("some_attention.py:Attention",), "missing 2 required positional arguments"),
    (("some_attention.py:Attention", "--arg", "d_in"), "a setting is NAME=VALUE; got 'd_in'"),
    (("broken_attention.py:Attention",), "raised ModuleNotFoundError: No module named 'no_such_package'"),
    (("no_such_module:Attention",), "importing no_such_module raised ModuleNotFoundError"),
    (("some_attention.py:ready", "--window", "0"), "Invalid value for '--window'"),
    (("some_attention.py:ready", "--dropout", "2"), "fix: dropout=0.1"),
    (("some_attention.py:ready", "--projection", "query=to_q"), "no submodule 'to_q'"),
    (("some_attention.py:ready", "--expect", "influenc=why"), "did you mean 'influence'?"),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED])
def test_wrong_usage_ends_with_2_and_says_what_to_write(code, arguments, text):
    told = run(*arguments)
    assert told.exit_code == 2
    assert text in told.output


def test_the_command_runs_by_itself(code):
    command = [
        sys.executable,
        "-c",
        "from attnkit.cli import main; main()",
        "check",
        f"{code}:attend",
        "--causal",
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (1, "")
    assert "future-leak" in told.stdout


def test_the_parameters_are_those_of_the_seed(code):
    leaky = (f"{code}:Attention", *SIZES, "--arg", "causal=false", "--causal", "--json")
    one, two = (run(*leaky).output for _ in range(2))
    strip = {"seconds": 0}
    assert json.loads(one) | strip == json.loads(two) | strip
    assert json.loads(one)["diagnosis"] != json.loads(run(*leaky, "--seed", "1").output)["diagnosis"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("0.1", 0.1),
        ("true", True),
        ("None", None),
        ("(1, 2)", (1, 2)),
        ("'a b'", "a b"),
        ("causal", "causal"),
    ],
)
def test_values_are_literals_words_and_text(text, value):
    assert arguments_of("--arg", [f"name={text}"]) == {"name": value}


def test_nothing_is_evaluated():
    assert arguments_of("--arg", ["name=__import__('os')"]) == {"name": "__import__('os')"}


@pytest.mark.messages
def test_refusals_are_in_four_parts(code):
    with pytest.raises(
        OptionError,
        match=r"^attnkit check: there is no file a.py\n  fix: attnkit check path/to/file.py:NAME$",
    ):
        object_of("a.py:B")
    with pytest.raises(
        UnknownNameError, match=r"^attnkit check: there is no name 'mak'\n  fix: did you mean 'make'\?$"
    ):
        object_of(f"{code}:mak")
    with pytest.raises(
        OptionError, match=r"Attention\(d_in=3\) raised TypeError(?s:.*)fix: give what it is made of by --arg"
    ):
        target_of(object_of(f"{code}:Attention"), {"d_in": 3}, seed=0)
