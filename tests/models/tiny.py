"""Tiny models in float64 whose numbers are moved from where they start: fresh ones attend almost evenly."""

import torch

from attnkit.models import Config, Decoder, Encoder, EncoderDecoder

VOCABULARY = 11
LENGTH = 7
CHUNKS = ([1] * LENGTH, [3, 1, 3], [2, 5])
THREE_WINDOWS = ({"mechanism": "sliding_window", "window": 3},) * 3 + ({"mechanism": "causal"},)


def config(**more):
    return Config(**({"d_model": 24, "num_layers": 2, "num_heads": 6} | more))


def moved(model, seed=1, by=0.5):
    """The model in float64, in evaluation mode, with other numbers."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def decoder(vocabulary_size=VOCABULARY, context_length=16, positions="learned", tied=True, **more):
    torch.manual_seed(1)
    sizes = {"vocabulary_size": vocabulary_size, "context_length": context_length}
    return moved(Decoder(config(**more), positions=positions, tied=tied, **sizes))


def encoder(**more):
    torch.manual_seed(1)
    return moved(Encoder(config(**more), vocabulary_size=VOCABULARY, context_length=16))


def both(source_width=24, **more):
    torch.manual_seed(1)
    reads = Encoder(config(d_model=source_width), vocabulary_size=13, context_length=16)
    return moved(EncoderDecoder(reads, config(**more), vocabulary_size=VOCABULARY, context_length=16))


def ids(batch=2, length=LENGTH, vocabulary_size=VOCABULARY, seed=0):
    return torch.randint(vocabulary_size, (batch, length), generator=torch.Generator().manual_seed(seed))


def padding(*missing, length=LENGTH):
    """A mask (batch, length) of texts that lack so many tokens on their left."""
    return torch.arange(length) >= torch.tensor(missing)[:, None]
