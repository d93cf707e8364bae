"""Transformers, made of the catalogue's layers: encoder, decoder, both together, and one for images."""

from attnkit.models.block import Block
from attnkit.models.config import Config
from attnkit.models.decoder import Decoder
from attnkit.models.embedding import Embedding
from attnkit.models.encoder import Encoder
from attnkit.models.encoder_decoder import EncoderDecoder, Reading
from attnkit.models.generation import GREEDY, Beams, Choice, beam_search, generate, stream
from attnkit.models.loading import load, load_tokenizer
from attnkit.models.parts import FeedForward
from attnkit.models.session import Session
from attnkit.models.vision import VisionTransformer

__all__ = [
    "GREEDY",
    "Beams",
    "Block",
    "Choice",
    "Config",
    "Decoder",
    "Embedding",
    "Encoder",
    "EncoderDecoder",
    "FeedForward",
    "Reading",
    "Session",
    "VisionTransformer",
    "beam_search",
    "generate",
    "load",
    "load_tokenizer",
    "stream",
]
