import json
import socket

import pytest

from attnkit.errors import OptionError
from attnkit.learn import notebook


def make(*sources, version="0.1.0"):
    """The text of a notebook as the tutorial is written: with the digest of its sources."""
    cells = [{"cell_type": "code", "source": source, "outputs": []} for source in sources]
    signed = {"version": version, "sources": notebook.digest(cells)}
    return json.dumps({"cells": cells, "metadata": {"attnkit": signed}, "nbformat": 4, "nbformat_minor": 5})


def change(path, *, source=None, output=None):
    """Change the first cell of the notebook at `path` as a reader would: its source, or by running it."""
    told = json.loads(path.read_text())
    if source is not None:
        told["cells"][0]["source"] = source
    if output is not None:
        told["cells"][0]["outputs"] = [output]
    path.write_text(json.dumps(told))


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """The packaged tutorial, in a folder of its own."""
    path = tmp_path / "package" / "attention.ipynb"
    path.parent.mkdir()
    path.write_text(make("a = 1", "b = 2"))
    monkeypatch.setattr(notebook, "packaged", lambda: path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Where the reader is."""
    path = tmp_path / "reader"
    path.mkdir()
    return path


@pytest.fixture
def copy(fresh, folder):
    """The reader's copy, just laid down."""
    notebook.lay_down(folder)
    return folder / "attention.ipynb"


def test_an_empty_folder_gets_a_copy(fresh, copy):
    assert copy.read_bytes() == fresh.read_bytes()


def test_a_copy_that_was_only_run_keeps_its_outputs(copy, folder):
    change(copy, output={"output_type": "stream", "name": "stdout", "text": "mine"})
    before = copy.read_bytes()
    assert "up to date" in notebook.lay_down(folder)
    assert copy.read_bytes() == before


def test_an_unchanged_copy_becomes_the_new_version(fresh, copy, folder):
    fresh.write_text(make("a = 1", "b = 3", version="0.2.0"))
    assert "now that of attnkit 0.2.0" in notebook.lay_down(folder)
    assert copy.read_bytes() == fresh.read_bytes()


def test_a_copy_that_was_only_run_becomes_the_new_version(fresh, copy, folder):
    change(copy, output={"output_type": "stream", "name": "stdout", "text": "mine"})
    fresh.write_text(make("a = 1", "b = 3", version="0.2.0"))
    notebook.lay_down(folder)
    assert copy.read_bytes() == fresh.read_bytes()


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_a_changed_copy_is_kept(fresh, copy, folder, version):
    change(copy, source="a = 'mine'")
    mine = copy.read_bytes()
    fresh.write_text(make("a = 1", "b = 2", version=version))
    assert "kept" in notebook.lay_down(folder)
    assert copy.read_bytes() == mine


def test_a_notebook_without_a_digest_is_kept(fresh, folder):
    mine = folder / "attention.ipynb"
    mine.write_text(json.dumps({"cells": [], "metadata": {}}))
    assert "kept" in notebook.lay_down(folder)
    assert json.loads(mine.read_text())["cells"] == []


def test_overwriting_keeps_a_changed_copy_beside_the_fresh_one(fresh, copy, folder):
    change(copy, source="a = 'mine'")
    mine = copy.read_bytes()
    assert "attention-yours.ipynb" in notebook.lay_down(folder, overwrite=True)
    assert (folder / "attention-yours.ipynb").read_bytes() == mine
    assert copy.read_bytes() == fresh.read_bytes()


def test_overwriting_again_clobbers_nothing(copy, folder):
    for mine in ("first", "second", "third"):
        change(copy, source=mine)
        notebook.lay_down(folder, overwrite=True)
    kept = [folder / f"attention-yours{end}.ipynb" for end in ("", "-2", "-3")]
    assert [json.loads(path.read_text())["cells"][0]["source"] for path in kept] == [
        "first",
        "second",
        "third",
    ]


def test_overwriting_an_unchanged_copy_leaves_nothing_beside_it(fresh, copy, folder):
    change(copy, output={"output_type": "stream", "name": "stdout", "text": "mine"})
    notebook.lay_down(folder, overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["attention.ipynb"]
    assert copy.read_bytes() == fresh.read_bytes()


@pytest.mark.messages
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "text", [b"", b"\xff\xfe", b"[]", b'{"cells": 1}', b'{"cells": []}', b'{"cells": [{}]}']
)
def test_a_file_that_is_no_notebook_is_refused(fresh, folder, text, overwrite):
    (folder / "attention.ipynb").write_bytes(text)
    with pytest.raises(OptionError, match=r"is there already and is no notebook(?s:.*)rename or remove it"):
        notebook.lay_down(folder, overwrite=overwrite)
    assert (folder / "attention.ipynb").read_bytes() == text


@pytest.mark.messages
def test_a_folder_of_that_name_is_refused(fresh, folder):
    (folder / "attention.ipynb").mkdir()
    with pytest.raises(OptionError, match="is no notebook"):
        notebook.lay_down(folder)


@pytest.mark.messages
def test_a_folder_that_cannot_be_written_says_what_to_do(fresh, tmp_path):
    # a file in a folder's place refuses the superuser too
    (tmp_path / "file").touch()
    with pytest.raises(
        OptionError, match=r"cannot write(?s:.*)mkdir attention && cd attention && attnkit learn"
    ):
        notebook.lay_down(tmp_path / "file")


def test_in_a_checkout_the_tutorial_itself_is_opened(fresh):
    before = fresh.read_bytes()
    assert "git will show" in notebook.lay_down(fresh.parent)
    assert fresh.read_bytes() == before


@pytest.mark.messages
def test_in_a_checkout_there_is_nothing_to_overwrite_with(fresh):
    with pytest.raises(OptionError, match=r"git checkout attention\.ipynb"):
        notebook.lay_down(fresh.parent, overwrite=True)


def test_sources_written_as_lines_have_the_digest_of_the_whole():
    # the file format allows both, and JupyterLab writes lines
    as_lines = [{"cell_type": "code", "source": ["a = 1\n", "b = 2"]}]
    as_text = [{"cell_type": "code", "source": "a = 1\nb = 2"}]
    assert notebook.digest(as_lines) == notebook.digest(as_text)


def test_the_tutorial_is_found():
    assert notebook.packaged().name == "attention.ipynb"


def test_jupyterlab_prints_little_and_asks_the_network_nothing():
    command = notebook.lab_command()
    assert {"--ServerApp.log_level=ERROR", "--LabApp.news_url=None"} <= set(command)


@pytest.mark.messages
def test_a_taken_port_is_refused():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OptionError, match=rf"cannot use port {port} \((?s:.*)leave --port out"):
            notebook.lab_command(port=port)


def test_a_free_port_is_passed_on():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    assert f"--port={port}" in notebook.lab_command(port=port)


@pytest.mark.parametrize(("able", "asked"), [(True, True), (False, False)])
def test_the_kernel_is_reached_encrypted_where_it_can_be(monkeypatch, able, asked):
    monkeypatch.setattr("zmq.has", lambda capability: able)
    assert ("--KernelManager.transport_encryption=auto" in notebook.lab_command()) is asked


@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)])
def test_only_the_superuser_is_allowed_as_root(monkeypatch, user, allowed):
    monkeypatch.setattr("os.geteuid", lambda: user)
    assert ("--allow-root" in notebook.lab_command()) is allowed
