"""The documentation: pages are made from mechanisms, examples of the guide run, and the site stands alone."""

import doctest
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
from attnkit_docs import heatmaps, pages, relations, sessions

import attnkit as ak
from attnkit.atlas import Reduction, reductions

ROOT = Path(__file__).parents[1]
GUIDE = sorted((ROOT / "docs/guide").glob("*.md"))
EVERYTHING = ak.all_mechanisms()
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def examples_of(path):
    """The code blocks of a page, with empty lines between them, so that a failure names the line of the page."""
    text, code, after = path.read_text("utf-8"), "", 0
    for block in BLOCK.finditer(text):
        code += "\n" * text.count("\n", after, block.start(1)) + block[1]
        after = block.end(1)
    return doctest.DocTestParser().get_doctest(code, {}, path.stem, str(path), 0)


@pytest.mark.parametrize("path", GUIDE, ids=lambda path: path.stem)
@pytest.mark.messages
def test_the_examples_of_the_guide_run(path):
    found = examples_of(path)
    assert len(found.examples) >= 5
    with torch.random.fork_rng():
        failed, _ = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(found)
    assert failed == 0


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_mechanism_has_a_page_with_all_that_its_value_says(name):
    mechanism = EVERYTHING[name]
    page = pages.page(mechanism, EVERYTHING)
    told = [f"# {name}\n", mechanism.summary, mechanism.formula, mechanism.paper.url, mechanism.text]
    told += [f"| `{each.name}` |" for each in (*mechanism.options, *mechanism.parts)]
    told += [f"[{one.target}]({one.target}.md)" for one in reductions(EVERYTHING) if one.source == name]
    assert [part for part in told if part not in page] == []
    assert page.count('<div class="weights">') == len(mechanism.examples)
    assert "torch.Size([2, 7, 24])" in page  # what its example answers


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_formula_becomes_mathml(name):
    pytest.importorskip("sphinx")
    from attnkit_docs.mathml import mathml

    assert mathml(EVERYTHING[name].formula, block=True).startswith("<math")


def test_a_formula_that_does_not_become_mathml_is_named():
    errors = pytest.importorskip("sphinx.errors")
    from attnkit_docs.mathml import mathml

    with pytest.raises(errors.ExtensionError, match=r"big"):
        mathml(r"\big( x", block=True)


def test_the_index_shows_every_mechanism_once_and_what_is_true_of_all():
    text = pages.index(EVERYTHING)
    cards = re.findall(r'class="card-link" href="(\w+)\.html"', text)
    assert sorted(cards) == sorted(EVERYTHING)
    assert "- A sample alone has the context that it has beside others." in text


def test_a_window_of_one_is_drawn_as_a_full_diagonal():
    # by hand: each of 16 queries reads itself alone, with weight 1
    drawn = heatmaps.drawn(ak.find("sliding_window"), {"window": 1})
    cells = re.findall(
        r'<rect x="(\d+)" y="(\d+)" width="1" height="1" fill="(\S+)" fill-opacity="(\S+)"', drawn
    )
    assert cells == [(str(n), str(n), "#3b8fd0", "1.000") for n in range(16)]


def test_a_picture_of_a_longer_text_says_what_length_it_was_given():
    # the example has 7 tokens, the picture 16
    drawn = heatmaps.drawn(ak.find("linformer"), {"rank": 3, "context_length": 7})
    assert "<code>rank=3, context_length=16</code>" in drawn


def test_weights_below_zero_are_orange_and_the_legend_says_so():
    drawn = heatmaps.drawn(ak.find("delta"), {})
    assert '#d9731a" fill-opacity="1.0"/></svg> -' in drawn
    assert drawn.count('fill="#d9731a"') > 10


def test_a_mechanism_stands_right_of_all_that_it_becomes():
    # by hand: c becomes b and a, b becomes a, so a is first, b second, c third; d becomes a and is beside b
    found = [
        Reduction(source, target, {}, (), {}, rearranged=False)
        for source, target in (("c", "b"), ("c", "a"), ("b", "a"), ("d", "a"))
    ]
    assert relations.columns(found, list("abcd")) == [["a"], ["b", "d"], ["c"]]


def test_mechanisms_that_become_each_other_end_the_search():
    found = [Reduction(*pair, {}, (), {}, rearranged=False) for pair in (("a", "b"), ("b", "a"))]
    assert sorted(relations.columns(found, list("ab"))) == [["a"], ["b"]]


def test_code_is_shown_with_what_it_answers():
    code = "x = 2\nfor n in range(2):\n    print(x + n)\nx * 3"
    assert sessions.answered(code).splitlines() == [
        ">>> x = 2",
        ">>> for n in range(2):",
        "...     print(x + n)",
        "2",
        "3",
        ">>> x * 3",
        "6",
    ]


def test_code_that_fails_is_not_shown():
    with pytest.raises(ZeroDivisionError):
        sessions.answered("1 / 0")


def test_options_are_written_as_a_reader_would_write_them():
    mask = ak.masks.causal & (ak.masks.window(3) | ~ak.masks.first(1))
    written = sessions.written("sigmoid", {"bias": -2.0, "mask": mask})
    assert written == "bias=-2.0, mask=(ak.masks.causal & (ak.masks.window(3) | ~ak.masks.first(1)))"


def test_options_that_nobody_can_write_are_taken_from_the_example():
    assert sessions.written("documents", {"ids": object()}) == '**ak.find("documents").examples[0]'


class Links(HTMLParser):
    """What a page fetches when it is opened, where its links go, and what can be linked to in it."""

    def __init__(self, text):
        super().__init__()
        self.fetched, self.linked, self.ids = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        self.ids |= {told[name] for name in ("id", "name") if told.get(name)}
        if tag in ("a", "area") and told.get("href"):
            self.linked.append(told["href"])
        elif told.get("src") or (tag == "link" and told.get("href")):
            self.fetched.append(told.get("src") or told["href"])


def is_elsewhere(address):
    return re.match(r"(https?:)?//", address) is not None


def test_a_script_of_another_host_is_seen():
    found = Links(
        '<script src="https://cdn.example/x.js"></script><link href="//b/c.css"><a href="https://d">e</a>'
    )
    assert list(filter(is_elsewhere, found.fetched)) == ["https://cdn.example/x.js", "//b/c.css"]


@pytest.fixture(scope="module")
def site():
    """What `make docs` has built; it runs these tests itself."""
    built = ROOT / "docs/build/html"
    if not built.is_dir():
        pytest.skip("there is no site; make docs builds it")
    return built


@pytest.fixture(scope="module")
def found(site):
    pages_of = [
        path for path in site.rglob("*.html") if "_static" not in path.parts
    ]  # the theme's templates are there
    return {path: Links(path.read_text("utf-8")) for path in pages_of}


@pytest.mark.exhaustive
def test_every_mechanism_has_a_built_page_with_its_formula(site):
    for name in EVERYTHING:
        assert "<math" in (site / f"mechanisms/{name}.html").read_text("utf-8")


@pytest.mark.exhaustive
def test_no_page_fetches_anything_from_elsewhere(site, found):
    assert [
        (path.name, at) for path, links in found.items() for at in links.fetched if is_elsewhere(at)
    ] == []
    styles = {path: path.read_text("utf-8") for path in site.rglob("*.css")}
    assert [path.name for path, text in styles.items() if re.search(r"url\(['\"]?(https?:)?//", text)] == []


@pytest.mark.exhaustive
def test_every_link_within_the_site_leads_somewhere(found):
    lost = []
    for path, links in found.items():
        for link in [*links.linked, *links.fetched]:
            if is_elsewhere(link) or link.startswith(("mailto:", "data:", "javascript:")):
                continue
            place, _, anchor = unquote(link.partition("?")[0]).partition("#")
            target = (path.parent / place).resolve() if place else path
            if not target.exists() or (anchor and target in found and anchor not in found[target].ids):
                lost.append((path.name, link))
    assert lost == []
