"""What is in the catalogue, and what it refuses of other packages."""

import importlib
import inspect
import pkgutil
import re
from importlib.metadata import EntryPoint

import pytest

from attnkit import catalog, mechanisms
from attnkit.catalog import FAMILIES, all_mechanisms, find, package_of
from attnkit.errors import OptionError, UnknownNameError
from attnkit.layers.attention import Attention
from attnkit.mechanism import Mechanism, Paper
from attnkit.mechanisms import causal
from attnkit.rule import Rule

FILES = sorted(module.name for module in pkgutil.iter_modules(mechanisms.__path__))
SENTENCE = re.compile(r"[A-Z].*[^.]\.")


def another(name="another", family="where"):
    return Mechanism(
        name=name,
        family=family,
        summary="A rule.",
        formula="x",
        paper=Paper("A paper", 2020, "https://example.org"),
        rule=Rule,
    )


OTHER, NAMESAKE, STRAY = another(), another("causal"), another("stray", family="elsewhere")
NOTHING = "no mechanism"


@pytest.fixture
def installed(monkeypatch):
    """Pretends that entry points are there, given as name=attribute of this file."""

    def install(**points):
        found = tuple(
            EntryPoint(name, value if ":" in value else f"{__name__}:{value}", catalog.GROUP)
            for name, value in points.items()
        )

        def entry_points(*, group, name=None):
            assert group == "attnkit.mechanisms"
            return [point for point in found if name in (None, point.name)]

        monkeypatch.setattr(catalog, "entry_points", entry_points)

    return install


@pytest.mark.parametrize("name", FILES)
def test_a_mechanism_has_the_name_of_its_file(name):
    mechanism = importlib.import_module(f"attnkit.mechanisms.{name}").MECHANISM
    assert mechanism.name == name
    assert all_mechanisms()[name] is mechanism is find(name)


@pytest.mark.parametrize("name", FILES)
def test_a_mechanism_says_what_it_is(name):
    mechanism = find(name)
    assert mechanism.family in FAMILIES
    assert SENTENCE.fullmatch(mechanism.summary)
    assert ". " not in mechanism.summary
    assert mechanism.formula
    assert mechanism.text.partition("\n\n")[0].endswith(".")
    assert re.search(r"^    \S", mechanism.text, re.MULTILINE), "its file shows no formula"


@pytest.mark.parametrize("name", FILES)
def test_a_mechanism_names_its_paper(name):
    paper = find(name).paper
    assert paper.title
    assert paper.url.startswith("https://")
    assert 1950 < paper.year < 2100


@pytest.mark.parametrize("name", FILES)
def test_the_examples_of_a_mechanism_bind(name):
    mechanism = find(name)
    assert mechanism.examples
    for options in mechanism.examples:
        assert mechanism.bind(options).options.keys() == {option.name for option in mechanism.options}


@pytest.mark.parametrize("name", FILES)
def test_every_option_is_explained(name):
    mechanism = find(name)
    assert [option.name for option in mechanism.options if not option.meaning] == []


@pytest.mark.parametrize("name", FILES)
def test_no_option_has_the_name_of_what_a_layer_is_told(name):
    taken = inspect.signature(Attention.__init__).parameters
    assert [option.name for option in find(name).options if option.name in taken] == []


def test_the_catalogue_is_in_the_order_of_the_alphabet():
    assert list(all_mechanisms()) == sorted(all_mechanisms())


def test_a_mechanism_of_another_package_is_found(installed):
    installed(another="OTHER")
    assert find("another") is OTHER
    assert all_mechanisms()["another"] is OTHER


def test_what_comes_with_attnkit_is_of_no_other_package():
    assert package_of(causal.MECHANISM) is None


@pytest.mark.messages
@pytest.mark.parametrize("look", [lambda: find("causal"), all_mechanisms], ids=["find", "all"])
def test_two_mechanisms_of_one_name_are_refused(installed, look):
    installed(causal="NAMESAKE")
    with pytest.raises(
        OptionError, match=r"two mechanisms are named 'causal'; .*:NAMESAKE of (?s:.*)fix: uninstall"
    ):
        look()


def test_one_mechanism_that_two_packages_name_is_one(installed):
    installed(causal="attnkit.mechanisms.causal:MECHANISM")
    assert find("causal") is causal.MECHANISM


@pytest.mark.messages
def test_an_entry_point_of_something_else_is_refused(installed):
    installed(another="NOTHING")
    with pytest.raises(
        OptionError, match=r':NOTHING of an unknown package is a str, no Mechanism(?s:.*)another = "'
    ):
        find("another")


@pytest.mark.messages
def test_an_entry_point_has_the_name_of_its_mechanism(installed):
    installed(different="OTHER")
    wanted = r"'different' of an unknown package leads to a mechanism named 'another'(?s:.*)another = \""
    with pytest.raises(OptionError, match=wanted):
        find("different")


@pytest.mark.messages
def test_a_family_that_is_not_known_is_refused(installed):
    installed(stray="STRAY")
    with pytest.raises(OptionError, match=r"of an unknown family, 'elsewhere'(?s:.*)one of where, score"):
        find("stray")


@pytest.mark.messages
def test_a_package_that_breaks_when_it_is_imported_is_named(installed):
    installed(broken="no_such_package_at_all:MECHANISM")
    with pytest.raises(OptionError, match=r"cannot be loaded: ModuleNotFoundError(?s:.*)install .* again"):
        all_mechanisms()


def test_what_does_not_break_is_found_beside_what_does(installed):
    installed(broken="no_such_package_at_all:MECHANISM")
    assert find("causal") is causal.MECHANISM


@pytest.mark.messages
def test_an_unknown_name_gets_the_nearest_of_all_packages(installed):
    installed(another="OTHER")
    with pytest.raises(UnknownNameError, match="did you mean 'another'"):
        find("anothr")
