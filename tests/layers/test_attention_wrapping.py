"""What PyTorch wraps around a layer: torch.compile, DDP, FSDP."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from attnkit.layers.attention import Attention
from tests.caches.layers import decodes, layer_of, tokens

COMPILED = {
    "causal": {},
    "sliding_window": {"window": 3},
    "rotary": {},
    "sink": {},
    "talking_heads": {},
    "gated_delta": {},
}


@pytest.fixture(autouse=True)
def _forget_what_was_compiled():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.compiled
@pytest.mark.parametrize("name", COMPILED)
def test_a_full_pass_compiles_as_one_graph_with_gradients(name):
    layer, x = layer_of(name, COMPILED[name]), tokens()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    found = []
    for each in (layer, compiled):
        leaf = x.clone().requires_grad_()
        output = each(leaf)
        found.append((output.detach(), *torch.autograd.grad(output.square().sum(), leaf)))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


@pytest.mark.compiled
@pytest.mark.parametrize("kind", ["growing", "static", "sliding", "quantised", "state"])
def test_decoding_compiles_a_few_times_and_not_once_a_token(kind):
    # once for a length, once for any; growing and sliding once more for the token that finds no room, and once for
    # the first that finds some; and once where the last token fills the room to the brim
    name = {"sliding": "sliding_window", "state": "gated_delta"}.get(kind, "causal")
    layer, x = layer_of(name, COMPILED[name]), tokens(length=150)
    counter = CompileCounterWithBackend("eager")
    step = torch.compile(layer, fullgraph=True, backend=counter)
    cache, other = (
        layer.new_cache(kind=kind, **({"max_tokens": 150} if kind == "static" else {})) for _ in "ab"
    )
    assert decodes(name, COMPILED[name])
    counts = []
    with torch.no_grad():
        outputs = [layer(x[:, :5], cache=cache)]
        expected = [layer(x[:, :5], cache=other)]
        for token in x[:, 5:].split(1, 1):
            outputs.append(step(token, cache=cache))
            expected.append(layer(token, cache=other))
            counts.append(counter.frame_count)
    torch.testing.assert_close(torch.cat(outputs, 1), torch.cat(expected, 1), rtol=0, atol=1e-9)
    assert counts[-1] <= 6
    assert counts[-2] == counts[len(counts) // 2], "it still compiles when half of the tokens have come"


@pytest.mark.compiled
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, of its compiler
@pytest.mark.filterwarnings("ignore:.*_prims_common.check:FutureWarning")
def test_compiled_kernels_train_and_decode():
    layer, x = layer_of("causal"), tokens(length=12)
    compiled = torch.compile(layer, fullgraph=True)
    found = []
    for each in (layer, compiled):
        leaf = x.clone().requires_grad_()
        found.append(torch.autograd.grad(each(leaf).square().sum(), leaf)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)
    cache = layer.new_cache(kind="static", max_tokens=12)
    with torch.no_grad():
        outputs = [
            layer(x[:, :5], cache=cache),
            *(compiled(token, cache=cache) for token in x[:, 5:].split(1, 1)),
        ]
        torch.testing.assert_close(torch.cat(outputs, 1), layer(x), rtol=0, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_a_wrapped_layer_trains_and_decodes_as_one_that_is_not(how, tmp_path):
    program = Path(__file__).with_name("wrapped.py")
    done = subprocess.run(
        [sys.executable, str(program), how, str(tmp_path / "meeting")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "same\n", done.stderr


def test_a_layer_in_a_sequence_is_one_of_its_modules():
    stack = torch.nn.Sequential(*(Attention(24, 6, mechanism="causal") for _ in range(2)))
    assert len(list(stack.parameters())) == 8
    assert stack(torch.randn(2, 7, 24)).shape == (2, 7, 24)
