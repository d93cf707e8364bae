"""Checkpoints on disk: what is read, and what is refused; nothing is half-loaded, and nothing in a file is run."""

import contextlib
import json
import pickle
import struct
import textwrap
import tracemalloc

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file

from attnkit.errors import AttentionError, DtypeError, OptionError, ShapeError, UnknownNameError
from attnkit.models import Decoder
from attnkit.models.loading import load
from tests.models.checkpoints import CONFIG, QUERY, STRANGE, halves, tensors, write, write_shards

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def logits(model):
    with torch.no_grad():
        return model(TOKENS)


def refused(kind, path, *parts, **options):
    """The refusal of a checkpoint holds these parts, and says what to do."""
    with pytest.raises(kind) as caught:
        load(path, **options)
    for part in parts:
        assert str(part) in str(caught.value)
    assert caught.value.fix


def test_each_tensor_is_where_it_belongs(tmp_path):
    model, weights = load(write(tmp_path)), tensors()
    assert isinstance(model, Decoder)
    assert not model.training
    assert torch.equal(model.blocks[1].attention.query.weight, weights[QUERY])
    assert torch.equal(
        model.blocks[0].feed_forward.down.weight, weights["model.layers.0.mlp.down_proj.weight"]
    )
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in model.parameters())
    assert sum(p.numel() for p in model.parameters()) == sum(t.numel() for t in weights.values())


def test_a_path_can_be_text(tmp_path):
    assert torch.equal(logits(load(str(write(tmp_path)))), logits(load(tmp_path)))


def test_several_files_and_their_index_are_one_checkpoint(tmp_path):
    (tmp_path / "one").mkdir()
    whole = load(write(tmp_path / "one"))
    assert torch.equal(logits(load(write_shards(tmp_path, halves()))), logits(whole))


def test_one_whole_file_comes_before_an_index(tmp_path):
    write_shards(tmp_path, {"a.safetensors": {name: t + 1 for name, t in tensors().items()}})
    expected = tensors()[QUERY]
    assert torch.equal(load(write(tmp_path)).blocks[1].attention.query.weight, expected)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("wanted", [torch.bfloat16, torch.float32, torch.float64])
def test_numbers_become_what_is_asked_for_whatever_the_file_holds(stored, wanted, tmp_path):
    model = load(write(tmp_path, tensors(stored)), dtype=wanted)
    assert {parameter.dtype for parameter in model.parameters()} == {wanted}
    assert torch.equal(model.blocks[1].attention.query.weight, tensors(stored)[QUERY].to(wanted))


def test_a_model_does_not_change_with_its_file(tmp_path):
    model = load(write(tmp_path))
    before, path = logits(model), tmp_path / "model.safetensors"
    with path.open("r+b") as file:
        file.seek(3000)
        file.write(bytes(path.stat().st_size - 3000))
    assert torch.equal(logits(model), before)


def test_tied_tables_are_one_parameter(tmp_path):
    weights = tensors()
    del weights["lm_head.weight"]
    model = load(write(tmp_path, weights, tie_word_embeddings=True))
    assert model.unembedding.weight is model.embedding.token.weight


def test_a_table_that_writes_tokens_and_is_another_stays_another_whatever_the_settings_say(tmp_path):
    # as transformers: "both are present with different values, so we will not tie them"
    model = load(write(tmp_path, tie_word_embeddings=True))
    assert torch.equal(model.unembedding.weight, tensors()["lm_head.weight"])
    assert not torch.equal(model.unembedding.weight, model.embedding.token.weight)


def test_nothing_that_the_file_lies_about_is_made(tmp_path):
    write(tmp_path, vocab_size=10**12)
    tracemalloc.start()
    refused(
        ShapeError, tmp_path, "'model.embed_tokens.weight' has shape (11, 64)", "it is (1000000000000, 64)"
    )
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.messages
def test_another_architecture_is_refused_by_its_name(tmp_path):
    write(tmp_path, model_type="mamba")
    refused(
        UnknownNameError,
        tmp_path,
        tmp_path / "config.json",
        "no kind of model 'mamba'",
        "one of albert, bert,",
    )


@pytest.mark.messages
def test_settings_of_another_model_of_that_kind_name_the_tensor_and_both_shapes(tmp_path):
    write(tmp_path, num_attention_heads=8, head_dim=16)
    what = "'model.layers.0.self_attn.q_proj.weight' has shape (64, 64); by " + str(tmp_path / "config.json")
    refused(ShapeError, tmp_path, what, "it is (128, 64)", "settings those of another model?")


@pytest.mark.messages
def test_settings_of_another_kind_name_a_tensor_that_is_missing(tmp_path):
    config = {"hidden_act": "gelu", "layer_norm_eps": 1e-6, "type_vocab_size": 2}
    write(tmp_path, model_type="bert", **config)
    refused(ShapeError, tmp_path, f"{tmp_path} has no tensor 'embeddings.word_embeddings.weight'")


@pytest.mark.messages
@pytest.mark.parametrize("name", [QUERY, "model.norm.weight", "lm_head.weight"])
def test_a_missing_tensor_is_named(name, tmp_path):
    weights = tensors()
    del weights[name]
    refused(ShapeError, write(tmp_path, weights), f"{tmp_path} has no tensor {name!r}")


@pytest.mark.messages
def test_a_missing_bias_is_named(tmp_path):
    refused(
        ShapeError,
        write(tmp_path, mlp_bias=True),
        f"{tmp_path} has no tensor 'model.layers.0.mlp.up_proj.bias'",
    )


@pytest.mark.messages
def test_a_bias_that_the_settings_do_not_promise_is_named(tmp_path):
    extra = {"model.layers.0.mlp.up_proj.bias": torch.ones(96)}
    what = "has the tensor 'model.layers.0.mlp.up_proj.bias', which a model with its settings has not"
    refused(ShapeError, write(tmp_path, tensors() | extra), what)


@pytest.mark.messages
def test_tensors_that_are_left_over_are_named(tmp_path):
    extra = {f"model.layers.{layer}.mlp.experts.weight": torch.ones(2) for layer in range(5)}
    told = "'model.layers.0.mlp.experts.weight', 'model.layers.1.mlp.experts.weight', "
    refused(ShapeError, write(tmp_path, tensors() | extra), told, "and 2 more", "another model?")


@pytest.mark.messages
def test_a_tensor_with_and_without_the_prefix_is_refused(tmp_path):
    extra = {"norm.weight": torch.ones(64)}
    refused(
        OptionError, write(tmp_path, tensors() | extra), "'norm.weight' and 'model.norm.weight', two tensors"
    )


@pytest.mark.messages
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn])
def test_whole_numbers_and_eight_bits_are_no_weights(dtype, tmp_path):
    weights = tensors() | {QUERY: torch.ones(64, 64).to(dtype)}
    refused(DtypeError, write(tmp_path, weights), f"{QUERY!r} holds {dtype}", "not quantised")


@pytest.mark.messages
def test_numbers_that_the_type_cannot_hold_are_refused(tmp_path):
    weights = tensors()
    weights[QUERY][3, 5] = -1e5
    write(tmp_path, weights)
    told = (
        "blocks.1.attention.query.weight has numbers up to 1e+05",
        "torch.float16 ends at 6.55e+04",
        "bfloat16",
    )
    refused(DtypeError, tmp_path, *told, dtype=torch.float16)


@pytest.mark.messages
def test_parameters_are_floats(tmp_path):
    refused(DtypeError, write(tmp_path), "parameters are floats; got torch.int64", dtype=torch.int64)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"hidden_size": None}, "config.json does not say hidden_size"),
        ({"hidden_size": "64"}, "hidden_size is a whole number from 1 on; got '64'"),
        ({"num_attention_heads": 0}, "num_attention_heads is a whole number from 1 on; got 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers is a whole number from 1 on; got True"),
        ({"rms_norm_eps": -1}, "rms_norm_eps is a number above 0; got -1"),
        ({"attention_bias": "no"}, "attention_bias is true or false; got 'no'"),
        ({"hidden_act": "relu2"}, "hidden_act is 'relu2'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling: type is 'dynamic'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling does not say factor"),
        ({"rope_parameters": [1]}, "rope_parameters holds settings of its own; got [1]"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor is 0.5"),
        ({"quantization_config": {"bits": 4}}, "quantization_config says that numbers are packed"),
    ],
)
def test_a_setting_that_is_missing_wrong_or_unknown_is_named(settings, told, tmp_path):
    refused(OptionError, write(tmp_path, **settings), str(tmp_path / "config.json"), told)


@pytest.mark.messages
def test_more_layers_than_tensors_are_refused_before_anything_is_made(tmp_path):
    write(tmp_path, num_hidden_layers=10**9)
    refused(ShapeError, tmp_path, "num_hidden_layers is 1000000000", f"{tmp_path} has 21 tensors")


@pytest.mark.messages
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON"),
        ("[1]", "holds a list, no object"),
        ("[" * 10**5, "is no JSON"),
        ("\udcff", "is no JSON"),
    ],
)
def test_settings_that_are_no_json_object_are_refused(text, told, tmp_path):
    write(tmp_path)
    (tmp_path / "config.json").write_text(text, errors="surrogateescape")
    refused(OptionError, tmp_path, tmp_path / "config.json", told, "download it again")


@pytest.mark.messages
def test_what_is_no_checkpoint_is_told_what_is(tmp_path):
    fix = "give the folder that holds config.json and model.safetensors, or a .gguf file"
    refused(OptionError, tmp_path / "gone", f"there is no {tmp_path / 'gone'}", fix)
    refused(
        OptionError, tmp_path, f"{tmp_path / 'config.json'} is missing", "the folder of a whole checkpoint"
    )
    write(tmp_path)
    refused(OptionError, tmp_path / "config.json", "config.json is a file, and no GGUF", fix)
    (tmp_path / "model.safetensors").unlink()
    refused(OptionError, tmp_path, f"{tmp_path / 'model.safetensors'} is missing", "it is not whole")


class Boom:
    """What runs code when a pickle of it is opened."""

    def __reduce__(self):
        return pytest.fail, ("the pickle was opened",)


@pytest.mark.messages
@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_is_not_opened_and_told_how_to_convert(how, tmp_path):
    write(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    path = tmp_path / "pytorch_model.bin"
    if how == "torch":
        torch.save({"weight": Boom()}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": Boom()}))
    told = "pytorch_model.bin is a pickle, which can run code"
    refused(OptionError, tmp_path, f"{tmp_path / 'model.safetensors'} is missing", told, "weights_only=True")
    refused(OptionError, path, told)
    path.rename(tmp_path / "model.safetensors")
    refused(OptionError, tmp_path, "model.safetensors is a pickle, not what its name says")


@pytest.mark.parametrize("size", [0x0280, 0x0380, 0x0480, 0x0580])
def test_a_header_whose_length_looks_like_a_pickle_is_none(size, tmp_path):
    # 0x0480 is written as the bytes 80 04, as pickles of protocol 4 begin
    path = write(tmp_path) / "model.safetensors"
    weights = {QUERY: torch.ones(2, 2)}
    save_file(weights, path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    path.write_bytes(struct.pack("<Q", size) + content[8 : 8 + length].ljust(size) + content[8 + length :])
    assert path.read_bytes()[0] == 0x80
    refused(ShapeError, tmp_path, "num_hidden_layers is 2")  # it is read, and has too few tensors


@pytest.mark.messages
def test_a_pickle_that_is_converted_as_the_refusal_says_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(write(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    torch.save(tensors(), "pytorch_model.bin")
    with pytest.raises(OptionError) as caught:
        load(tmp_path)
    exec(textwrap.dedent(caught.value.fix.partition("\n")[2]), {"torch": torch, "safetensors": safetensors})
    assert torch.equal(load(tmp_path).blocks[1].attention.query.weight, tensors()[QUERY])


@pytest.mark.messages
def test_a_file_that_is_cut_off_is_refused_wherever_it_ends(tmp_path):
    path = write(tmp_path) / "model.safetensors"
    whole = path.read_bytes()
    for size in (0, 3, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(
            OptionError,
            tmp_path,
            f"{path} cannot be read as safetensors",
            "cut off, damaged, or something else",
        )


def forged(path, change):
    """Change the header of a safetensors file, and leave the numbers."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


@pytest.mark.messages
@pytest.mark.parametrize(
    "change",
    [
        lambda header: header[QUERY].update(shape=[64, 65]),
        lambda header: header[QUERY].update(shape=[2**40, 2**40]),
        lambda header: header[QUERY].update(data_offsets=[0, 2**60]),
        lambda header: header[QUERY].update(data_offsets=[-4, 100]),
        lambda header: header[QUERY].update(dtype="F64"),
        lambda header: header[QUERY].update(dtype="pickle"),
        lambda header: header.update({QUERY: header["model.norm.weight"]}),
        lambda header: header.clear(),
    ],
    ids=["shape", "huge shape", "offsets", "negative", "wider", "unknown type", "overlap", "empty"],
)
def test_a_header_that_lies_is_refused(change, tmp_path):
    path = write(tmp_path) / "model.safetensors"
    forged(path, change)
    refused(OptionError, tmp_path, f"{path} cannot be read as safetensors")


@pytest.mark.messages
def test_a_header_that_is_longer_than_the_file_is_refused(tmp_path):
    path = write(tmp_path) / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + path.read_bytes()[8:])
    refused(OptionError, tmp_path, f"{path} cannot be read as safetensors")


@pytest.mark.messages
@pytest.mark.parametrize("name", ["../a.safetensors", "sub/a.safetensors", "..\\a.safetensors", "..", ""])
def test_an_index_that_leaves_its_folder_is_refused(name, tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path, folder / "sub"):
        save_file(tensors(), place / "a.safetensors")
    write_shards(folder, {}, listed=dict.fromkeys(tensors(), name))
    refused(OptionError, folder, f"names the file {name!r}, which is not in its folder", "where you trust it")


@pytest.mark.messages
def test_an_index_with_the_whole_path_of_a_file_is_refused(tmp_path):
    save_file(tensors(), tmp_path / "a.safetensors")
    (tmp_path / "model").mkdir()
    whole = str(tmp_path / "a.safetensors")
    write_shards(tmp_path / "model", {}, listed=dict.fromkeys(tensors(), whole))
    refused(OptionError, tmp_path / "model", f"names the file {whole!r}, which is not in its folder")


@pytest.mark.messages
def test_an_index_and_files_that_differ_are_refused(tmp_path):
    files = halves()
    listed = {name: file for file, weights in files.items() for name in weights}
    index = tmp_path / "model.safetensors.index.json"
    write_shards(tmp_path, files, listed=listed | {"more.weight": "a.safetensors"})
    refused(
        OptionError,
        tmp_path,
        f"{index} and a.safetensors differ about 'more.weight': the file does not have it",
    )
    name = next(iter(files["b.safetensors"]))
    write_shards(tmp_path, files, listed={key: file for key, file in listed.items() if key != name})
    refused(
        OptionError,
        tmp_path,
        f"differ about {name!r}: the file has the tensor, and the index does not list it",
    )
    write_shards(tmp_path, files, listed=listed | {name: "c.safetensors"})
    refused(OptionError, tmp_path, f"b.safetensors differ about {name!r}")
    write_shards(tmp_path, {"a.safetensors": files["a.safetensors"]}, listed=listed)
    (tmp_path / "b.safetensors").unlink()
    refused(OptionError, tmp_path, f"{tmp_path / 'b.safetensors'} is missing", "not whole")


@pytest.mark.messages
@pytest.mark.parametrize("listed", [[], {}, "a.safetensors", {"a": 1}])
def test_an_index_that_lists_nothing_is_refused(listed, tmp_path):
    write_shards(tmp_path, {}, listed=listed)
    refused(OptionError, tmp_path, "model.safetensors.index.json has no weight_map from tensors to files")


@pytest.mark.messages
def test_settings_with_any_other_value_are_loaded_or_refused_kindly(tmp_path):
    write(tmp_path)
    loaded = 0
    for name in (*CONFIG, "head_dim", "rope_parameters", "sliding_window", "attention_bias"):
        for kind in ("llama", "mistral"):
            for value in STRANGE:
                (tmp_path / "config.json").write_text(
                    json.dumps(CONFIG | {"model_type": kind} | {name: value})
                )
                with contextlib.suppress(AttentionError):
                    loaded += isinstance(load(tmp_path), Decoder)
    assert 0 < loaded < len(CONFIG) * len(STRANGE)


def test_a_wrong_byte_anywhere_in_the_header_is_refused_or_changes_no_name(tmp_path):
    path = write(tmp_path) / "model.safetensors"
    whole = path.read_bytes()
    (size,) = struct.unpack("<Q", whole[:8])
    generator = torch.Generator().manual_seed(0)
    read = 0
    for place in range(0, size + 8, 17):
        wrong = bytearray(whole)
        wrong[place] = int(torch.randint(0, 256, (), generator=generator))
        path.write_bytes(wrong)
        with contextlib.suppress(AttentionError):
            load(tmp_path)
            read += 1
            assert set(load_file(path)) == set(tensors())
    assert read < 10
