"""GGUF files: Llama in them is the same model as in a folder, and files that lie are refused."""

import contextlib
import struct
import time

import numpy
import pytest
import torch

from attnkit.errors import AttentionError, OptionError, ShapeError
from attnkit.layers.attention import Attention
from attnkit.models.loading import load, load_tokenizer
from attnkit.models.loading.gguf_file import GGUFFile
from attnkit.positions import Rotary
from tests.models.checkpoints import (
    D_MODEL,
    HEAD_DIM,
    HEADS,
    KV_HEADS,
    gguf_tensors,
    tensors,
    write,
    write_gguf,
)

gguf = pytest.importorskip("gguf")


def refused(kind, path, *parts):
    with pytest.raises(kind) as caught:
        load(path)
    for part in parts:
        assert str(part) in str(caught.value)


def attention(weights, layout):
    """The first layer's attention, with weights as they are stored."""
    rotary = Rotary(base=500.0, layout=layout)
    sizes = {"num_kv_heads": KV_HEADS, "head_dim": HEAD_DIM}
    layer = Attention(D_MODEL, HEADS, mechanism="causal", positions=rotary, **sizes)
    names = {"query": "attn_q", "key": "attn_k", "value": "attn_v", "output": "attn_output"}
    layer.load_state_dict({f"{name}.weight": weights[f"blk.0.{part}.weight"] for name, part in names.items()})
    return layer.double()


@torch.no_grad()
def test_attention_is_what_the_stored_rows_give_with_neighbours_that_turn(tmp_path):
    # independent of how rows are put back: the stored ones are for the layout "pairs"
    weights, x = gguf_tensors(), 3 * torch.randn(2, 7, D_MODEL, dtype=torch.float64)
    found = load(write_gguf(tmp_path / "m.gguf", weights), dtype=torch.float64).blocks[0].attention(x)
    torch.testing.assert_close(found, attention(weights, "pairs")(x))
    assert not torch.allclose(found, attention(weights, "halves")(x), atol=0.1)


@pytest.mark.parametrize("packed", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
def test_numbers_are_those_of_the_packed_blocks(packed, tmp_path):
    weights = gguf_tensors()
    model = load(write_gguf(tmp_path / "m.gguf", weights, packed=packed))
    kind = gguf.GGMLQuantizationType[packed]
    stored = weights["blk.1.ffn_down.weight"]
    if packed != "F32":
        stored = torch.from_numpy(gguf.dequantize(gguf.quantize(stored.numpy(), kind), kind))
    assert torch.equal(model.blocks[1].feed_forward.down.weight, stored)
    # a block of 32 numbers in 4 bits has steps of a fifteenth of its range, which is below 4 standard deviations here
    assert (stored - weights["blk.1.ffn_down.weight"]).abs().max() < 0.3 * 8 / 15


def test_four_bits_are_unpacked_as_the_format_says():
    # by hand, Q4_1: value = scale * nibble + least; low nibbles are the first 16 numbers, high ones the last 16
    block = numpy.frombuffer(
        struct.pack("<ee16B", 0.5, -1.0, *(low + 16 * (15 - low) for low in range(16))), numpy.uint8
    )
    found = gguf.dequantize(block[None], gguf.GGMLQuantizationType.Q4_1)[0].tolist()
    assert found == [0.5 * low - 1 for low in range(16)] + [0.5 * (15 - low) - 1 for low in range(16)]


@torch.no_grad()
def test_the_model_is_that_of_a_folder_with_the_same_weights(tmp_path):
    # rows as in llama.cpp's convert_hf_to_gguf: the halves of a head become neighbours
    weights = gguf_tensors()
    for name, tensor in weights.items():
        heads = {"attn_q.weight": HEADS, "attn_k.weight": KV_HEADS}.get(
            name.removeprefix("blk.0.").removeprefix("blk.1.")
        )
        if heads:
            weights[name] = (
                tensor.reshape(heads, 2, HEAD_DIM // 2, D_MODEL).swapaxes(1, 2).reshape(tensor.shape)
            )
    found, tokens = load(write_gguf(tmp_path / "m.gguf", weights)), torch.tensor([[3, 1, 4, 1, 5]])
    wanted = load(write(tmp_path, tensors()))
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), wanted.parameters(), strict=True))
    torch.testing.assert_close(found(tokens), wanted(tokens))  # its header holds rms_norm_eps in float32


def test_a_file_without_an_output_table_is_tied(tmp_path):
    weights = gguf_tensors()
    del weights["output.weight"]
    model = load(write_gguf(tmp_path / "m.gguf", weights), dtype=torch.bfloat16)
    assert model.unembedding.weight is model.embedding.token.weight
    assert model.embedding.token.weight.dtype == torch.bfloat16


@pytest.mark.messages
@pytest.mark.parametrize("name", ["blk.1.attn_q.weight", "token_embd.weight", "blk.0.ffn_norm.weight"])
def test_a_missing_tensor_has_its_name_in_the_file(name, tmp_path):
    weights = gguf_tensors()
    del weights[name]
    path = write_gguf(tmp_path / "m.gguf", weights)
    refused(ShapeError, path, f"{path} has no tensor {name!r}")


@pytest.mark.messages
def test_extra_tensors_and_wrong_shapes_have_their_names_in_the_file(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", gguf_tensors() | {"rope_freqs.weight": torch.ones(8)})
    refused(ShapeError, path, "tensors that a model with its settings has not: 'rope_freqs.weight'")
    path = write_gguf(tmp_path / "n.gguf", gguf_tensors() | {"blk.0.attn_k.weight": torch.ones(33, D_MODEL)})
    refused(ShapeError, path, "'blk.0.attn_k.weight' has shape (33, 64); by the header of ", "it is (32, 64)")


@pytest.mark.messages
def test_settings_have_their_names_in_the_header(tmp_path):
    path = write_gguf(tmp_path / "a.gguf", gguf_tensors(), without=("block_count",))
    refused(OptionError, path, f"the header of {path} does not say llama.block_count")
    path = write_gguf(tmp_path / "b.gguf", gguf_tensors(), **{"attention.head_count": 0})
    refused(OptionError, path, "llama.attention.head_count is a whole number from 1 on; got 0")
    path = write_gguf(tmp_path / "c.gguf", gguf_tensors(), **{"rope.dimension_count": 8})
    refused(
        OptionError,
        path,
        "llama.rope.dimension_count is 8",
        "llama.rope.dimension_count = 16, is what is known",
    )
    path = write_gguf(tmp_path / "d.gguf", gguf_tensors(), architecture="gemma2")
    refused(OptionError, path, "general.architecture is 'gemma2'", "'llama', is what is known here")


def test_a_file_that_ends_anywhere_is_refused(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", gguf_tensors())
    whole = path.read_bytes()
    for size in [*range(4, 2500, 31), len(whole) // 2, len(whole) - 65]:
        path.write_bytes(whole[:size])
        with pytest.raises(OptionError):
            load(path)


def number(value):
    return struct.pack("<Q", value)


def text(words):
    return number(len(words)) + words.encode()


def header(tensors, values, *parts, version=3):
    return b"GGUF" + struct.pack("<I", version) + number(tensors) + number(values) + b"".join(parts)


ARRAY, STRING, BYTE = (struct.pack("<I", kind) for kind in (9, 8, 0))
TENSOR = text("t") + struct.pack("<I", 1)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header(0, 2**60), "promises 1152921504606846976 of values, more than it has bytes for"),
        (header(2**60, 0), "promises 1152921504606846976 of tensors"),
        (header(0, 1, text("a"), ARRAY, BYTE, number(2**62), bytes(9)), "of a, more than it has bytes for"),
        (header(0, 1, text("a"), ARRAY, STRING, number(2**40), bytes(9)), "of a, more than it has bytes for"),
        (header(0, 1, text("a"), ARRAY, ARRAY, number(1), bytes(99)), "'a' lists values of kind 9"),
        (header(0, 1, number(2**50), bytes(9)), "it ends within a text"),
        (header(0, 1, text("a"), struct.pack("<I", 77), bytes(9)), "'a' is of kind 77, which is none"),
        (header(0, 2, *2 * [text("a"), BYTE, b"\x01"], bytes(9)), "it has 'a' twice"),
        (header(0, 1, number(1), b"\xff", BYTE, b"\x01" * 9), "a text in it is no UTF-8"),
        (header(2, 0, *2 * [TENSOR, number(4), bytes(12)], bytes(99)), "it has 't' twice"),
        (header(1, 0, text("t"), struct.pack("<I", 9), bytes(99)), "'t' has 9 axes, not 1 to 4"),
        (header(1, 0, text("t"), struct.pack("<I", 0), bytes(99)), "'t' has 0 axes"),
        (header(0, 1, text("general.alignment"), BYTE, b"\x00"), "general.alignment is 0"),
        (header(0, 0, version=1), "it is not GGUF of version 2 or 3, little-endian"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(16), "it is not GGUF of version 2 or 3, little-endian"),
    ],
)
def test_a_header_that_lies_is_refused_at_once(content, told, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    start = time.perf_counter()
    refused(OptionError, path, f"{path} cannot be read as GGUF", told, "cut off, damaged")
    assert time.perf_counter() - start < 5  # a promise of 2**60 values is not waited for


@pytest.mark.messages
@pytest.mark.parametrize(
    ("size", "kind", "offset", "told"),
    [
        (0, 0, 2**40, "the 0 bytes of 't' begin at "),
        (8, 0, 2**60, "the 32 bytes of 't' begin at "),
        (2**40, 0, 0, f"the {2**42} bytes of 't' begin at 64, of "),
        (8, 99, 0, "'t' cannot be packed so: 99 is not a valid"),
        (33, 8, 0, "'t' cannot be packed so: "),
        (8, 24, 0, "'t' is packed as I8, which gguf cannot unpack"),
    ],
    ids=["nothing", "offset", "size", "kind", "block", "whole numbers"],
)
def test_a_tensor_that_lies_elsewhere_or_is_packed_in_another_way_is_refused(
    size, kind, offset, told, tmp_path
):
    path = tmp_path / "m.gguf"
    path.write_bytes(header(1, 0, TENSOR, number(size), struct.pack("<I", kind), number(offset), bytes(99)))
    with pytest.raises(OptionError, match="cannot be read as GGUF") as caught:
        GGUFFile(path).tensor("t")
    assert told in str(caught.value)


def test_a_wrong_byte_in_the_header_is_loaded_or_refused_kindly(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", gguf_tensors())
    whole, generator = path.read_bytes(), torch.Generator().manual_seed(1)
    for place in range(4, 2200, 13):
        wrong = bytearray(whole)
        wrong[place] = int(torch.randint(0, 256, (), generator=generator))
        path.write_bytes(wrong)
        with contextlib.suppress(AttentionError):
            load(path)


WORDS = ["<|end|>", "a", "b", "1", "2", "Ġ", "ab", "Ġa", "12"]


def with_tokens(path, **values):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("tokenizer.ggml.model", values.get("model", "gpt2"))
    writer.add_string("tokenizer.ggml.pre", values.get("pre", "smollm"))
    writer.add_array("tokenizer.ggml.tokens", WORDS)
    writer.add_array("tokenizer.ggml.token_type", [3] + [1] * 8)
    writer.add_array("tokenizer.ggml.merges", values.get("merges", ["a b", "Ġ a", "1 2"]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_a_tokenizer_joins_pairs_cuts_digits_and_keeps_its_control_words_whole(tmp_path):
    tokenizer = load_tokenizer(with_tokens(tmp_path / "m.gguf"))
    assert tokenizer.encode("ab a12<|end|>").tokens == ["ab", "Ġa", "1", "2", "<|end|>"]
    assert tokenizer.decode(tokenizer.encode("ab a12").ids) == "ab a12"


@pytest.mark.messages
def test_a_tokenizer_of_another_kind_is_refused(tmp_path):
    for values, told in (
        ({"model": "llama"}, "tokenizer.ggml.model is 'llama'"),
        ({"pre": "qwen2"}, "tokenizer.ggml.pre is 'qwen2'"),
        ({"merges": ["a x"]}, "holds no tokenizer"),
    ):
        with pytest.raises(OptionError) as caught:
            load_tokenizer(with_tokens(tmp_path / f"{len(told)}.gguf", **values))
        assert told in str(caught.value)


@pytest.mark.messages
def test_a_folder_without_a_tokenizer_is_told_so(tmp_path):
    with pytest.raises(OptionError, match=r"tokenizer.json is missing"):
        load_tokenizer(write(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(OptionError, match=r"tokenizer.json holds no tokenizer"):
        load_tokenizer(tmp_path)
