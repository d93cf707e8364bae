"""What `check` takes can be seen before it is called, and is said in one place."""

import inspect
import subprocess
import sys
from dataclasses import MISSING, fields
from typing import get_type_hints

import pytest

import attnkit
from attnkit.conformance import Declared, parametrize
from attnkit.conformance.declared import Said
from attnkit.errors import UnknownNameError


def usual(one):
    return one.default if one.default_factory is MISSING else one.default_factory()


@pytest.mark.parametrize("function", [attnkit.check, parametrize], ids=["check", "parametrize"])
def test_each_argument_is_told_with_its_type_and_what_it_is_by_default(function):
    target, *told = inspect.signature(function).parameters.values()
    types = get_type_hints(Declared)
    assert (target.name, target.default) == ("target", target.empty)
    assert [(one.name, one.default, one.annotation) for one in told] == [
        (one.name, usual(one), types[one.name]) for one in fields(Declared)
    ]
    assert {one.kind for one in told} == {inspect.Parameter.KEYWORD_ONLY}


def test_editors_are_told_the_same():
    assert get_type_hints(Said) == get_type_hints(Declared)
    assert Said.__optional_keys__ == {one.name for one in fields(Declared)}


def test_every_argument_has_its_line_in_the_docstring():
    documented = inspect.getdoc(Declared) or ""
    assert [one.name for one in fields(Declared) if f"    {one.name}: " not in documented] == []


@pytest.mark.messages
@pytest.mark.parametrize("function", [attnkit.check, parametrize], ids=["check", "parametrize"])
def test_an_argument_that_is_none_is_refused_with_the_nearest(function):
    with pytest.raises(
        UnknownNameError,
        match=r"^check: there is no argument 'num_head'\n  fix: did you mean 'num_heads'\?$",
    ):
        function(attnkit.Attention(24, 4, mechanism="full"), num_head=4)


ASKED = """
import sys, attnkit
before = "attnkit.conformance" in sys.modules
assert {"check", "conformance", "Attention"} <= set(dir(attnkit))
from attnkit import check
assert check is attnkit.check is attnkit.conformance.check
print(before, "attnkit.conformance" in sys.modules)
"""


def test_importing_the_package_imports_no_check_before_it_is_asked_for():
    told = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=False)
    assert (told.stdout, told.stderr) == ("False True\n", "")


def test_a_name_that_the_package_has_not_is_no_attribute():
    with pytest.raises(AttributeError, match=r"^module 'attnkit' has no attribute 'chek'$"):
        attnkit.chek  # noqa: B018, asked for
