import pickle

import pytest
import torch

from attnkit import errors


def test_an_error_says_where_what_and_what_to_write_instead():
    error = errors.OptionError(where="window", what="a window is at least 1; got 0", fix="window(1)")
    assert str(error) == "window: a window is at least 1; got 0\n  fix: window(1)"


@pytest.mark.parametrize(
    "kind",
    [
        errors.OptionError,
        errors.ShapeError,
        errors.DtypeError,
        errors.BackendError,
        errors.UnknownNameError,
        errors.MissingExtraError,
    ],
)
def test_one_except_catches_every_error(kind):
    with pytest.raises(errors.AttentionError):
        raise kind(where="a", what="b", fix="c")


def test_an_error_survives_another_process():
    error = pickle.loads(pickle.dumps(errors.ShapeError(where="a", what="b", fix="c")))
    assert (type(error), error.where, error.what, error.fix) == (errors.ShapeError, "a", "b", "c")


def test_a_near_miss_is_corrected():
    error = errors.unknown_name("find", "mechanism", "causl", ["full", "causal"])
    assert str(error) == "find: there is no mechanism 'causl'\n  fix: did you mean 'causal'?"


def test_a_name_near_nothing_gets_the_list():
    assert errors.unknown_name("find", "mechanism", "x", ["full", "causal"]).fix == "one of causal, full"


def test_a_name_that_is_no_text_gets_the_list():
    assert errors.unknown_name("find", "mechanism", 3, ["full"]).fix == "one of full"


@pytest.mark.compiled
def test_an_error_can_be_caught_under_compile():
    def attempt(x):
        try:
            raise errors.ShapeError(where="a", what="b", fix="c")
        except errors.AttentionError:
            return x + 1

    compiled = torch.compile(attempt, fullgraph=True, backend="aot_eager")
    assert compiled(torch.ones(1)).item() == 2


def test_a_missing_package_names_its_install_command():
    with pytest.raises(errors.MissingExtraError) as caught:
        errors.need("no_such_package.part", extra="view", where="viewer")
    assert caught.value.fix == 'pip install "attnkit[view]"'
    assert "'no_such_package' is not installed" in caught.value.what


def test_a_missing_extra_can_be_caught_as_an_import_error():
    with pytest.raises(ImportError):
        errors.need("no_such_package", extra="view", where="viewer")


def test_a_package_that_breaks_inside_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "breaks_inside.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all"):
        errors.need("breaks_inside", extra="view", where="viewer")


def test_a_package_that_is_there_is_returned():
    assert errors.need("json", extra="view", where="viewer").loads("1") == 1
