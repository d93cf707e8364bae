"""One block: where its norms stand, what it drops, and what it reads."""

import pytest
import torch

from attnkit.errors import OptionError
from attnkit.models import Block
from tests.models import tiny


def block(**more):
    memory = more.pop("memory", None)
    return tiny.moved(Block(tiny.config(**more), 0, memory=memory))


def drawn(length=5, width=24, seed=0):
    return 3 * torch.randn(
        2, length, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def by_formula(layer, x, norm_at):
    """The three formulas of the file, written out."""
    norms = layer.norms
    for name, part in (("attention", layer.attention), ("feed_forward", layer.feed_forward)):
        if norm_at == "pre":
            x = x + part(norms[name](x))
        elif norm_at == "post":
            x = norms[name](x + part(x))
        else:
            x = x + norms["after_" + name](part(norms[name](x)))
    return x


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("norm_at", ["pre", "post", "both"])
@pytest.mark.parametrize("feed_forward", ["gelu", "swiglu"])
def test_a_block_is_its_formula(norm, norm_at, feed_forward):
    layer, x = block(norm=norm, norm_at=norm_at, feed_forward=feed_forward), drawn()
    torch.testing.assert_close(layer(x), by_formula(layer, x, norm_at))


def test_a_post_norm_block_is_pytorchs_encoder_layer():
    # independent oracle: nn.TransformerEncoderLayer, with our numbers
    layer = tiny.moved(Block(tiny.config(norm_at="post", hidden=40, feed_forward="relu"), 0, usual="full"))
    theirs = torch.nn.TransformerEncoderLayer(24, 6, 40, dropout=0.0, batch_first=True, dtype=torch.float64)
    theirs.self_attn = layer.attention.to_torch()
    theirs.linear1, theirs.linear2 = layer.feed_forward.up, layer.feed_forward.down
    theirs.norm1, theirs.norm2 = layer.norms["attention"], layer.norms["feed_forward"]
    torch.testing.assert_close(layer(drawn()), theirs.train()(drawn()))


def test_a_block_reads_its_memory_between_itself_and_the_feed_forward_layer():
    layer, x, memory = block(memory={"mechanism": "full"}), drawn(), drawn(length=4, seed=1)
    y = x + layer.attention(layer.norms["attention"](x))
    y = y + layer.memory(layer.norms["memory"](y), memory)
    y = y + layer.feed_forward(layer.norms["feed_forward"](y))
    torch.testing.assert_close(layer(x, memory), y)


def test_what_a_part_adds_is_dropped_while_training():
    # all of it is dropped: only x is left
    layer, x = block(dropout=1.0).train(), drawn()
    assert torch.equal(layer(x), x)
    assert not torch.equal(layer.eval()(x), x)


@pytest.mark.messages
def test_a_memory_that_nobody_reads_is_refused():
    with pytest.raises(
        OptionError, match=r"Block: this block reads no memory, and one is given(?s:.*)fix: Block"
    ):
        block()(drawn(), drawn())


@pytest.mark.messages
def test_a_block_without_the_memory_that_it_reads_is_refused():
    with pytest.raises(OptionError, match=r"this block reads a memory, and there is none"):
        block(memory={"mechanism": "full"})(drawn())
