"""Encoders as Hugging Face saves them: BERT, and ALBERT, whose layers are one."""

from torch import nn

from attnkit.models.config import Config
from attnkit.models.embedding import Embedding
from attnkit.models.encoder import Encoder
from attnkit.models.loading.settings import Settings
from attnkit.models.loading.source import Source, State

Loaded = tuple[Encoder, State]
_BENDS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
_BERT = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "norms.attention": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "norms.feed_forward": "output.LayerNorm",
}
_ALBERT = {
    "attention.query": "attention.query",
    "attention.key": "attention.key",
    "attention.value": "attention.value",
    "attention.output": "attention.dense",
    "norms.attention": "attention.LayerNorm",
    "feed_forward.up": "ffn",
    "feed_forward.down": "ffn_output",
    "norms.feed_forward": "full_layer_layer_norm",
}


def bert(source: Source) -> Loaded:
    """BERT: norms after each sum, learned positions, and kinds of token. The pooler and other heads are left out."""
    source.drop_prefix("bert.")
    source.skip("position_ids")
    source.skip_parts("pooler.", "cls.", "classifier.", "qa_outputs.")
    model = _encoder(source.settings)
    state = _embedded(source) | source.linear("norm_embeddings", "embeddings.LayerNorm")
    for layer in range(model.config.num_layers):
        state |= source.renamed(f"blocks.{layer}", f"encoder.layer.{layer}", _BERT)
    return model, state


def albert(source: Source) -> Loaded:
    """ALBERT: BERT with one block for all layers, and tokens in fewer numbers, which a linear map then widens."""
    source.drop_prefix("albert.")
    source.skip("position_ids")
    source.skip_parts("pooler.", "predictions.", "sop_classifier.", "classifier.", "qa_outputs.")
    settings = source.settings
    settings.expect(num_hidden_groups=1, inner_group_num=1)
    model, width = _encoder(settings), settings.whole("embedding_size")
    old, d_model = model.embedding, model.config.d_model
    model.embedding = Embedding(old.token.num_embeddings, width, context_length=old.context_length)
    model.kind = nn.Embedding(settings.whole("type_vocab_size"), width)
    norm = nn.LayerNorm(width, eps=model.config.norm_eps)
    model.norm_embeddings = nn.Sequential(norm, nn.Linear(width, d_model))
    model.blocks = nn.ModuleList([model.blocks[0]] * model.config.num_layers)
    state = _embedded(source) | source.linear("norm_embeddings.0", "embeddings.LayerNorm")
    state |= source.linear("norm_embeddings.1", "encoder.embedding_hidden_mapping_in")
    layer = "encoder.albert_layer_groups.0.albert_layers.0"
    return model, state | source.renamed("blocks.0", layer, _ALBERT)


def stack_of(settings: Settings, norm_at: str, hidden: int) -> Config:
    """The blocks of BERT, ALBERT and vision transformers.

    Args:
        settings: of the model.
        norm_at: where norms stand.
        hidden: numbers of a token inside of the feed-forward layer.
    """
    return Config(
        d_model=settings.whole("hidden_size"),
        num_layers=settings.whole("num_hidden_layers"),
        num_heads=settings.whole("num_attention_heads"),
        attention=({"mechanism": "full"},),
        hidden=hidden,
        feed_forward=settings.chosen("hidden_act", _BENDS),
        norm_at=norm_at,
        norm_eps=settings.number("layer_norm_eps"),
    )


def _encoder(settings: Settings) -> Encoder:
    settings.expect(is_decoder=False, position_embedding_type="absolute")
    return Encoder(
        stack_of(settings, "post", settings.whole("intermediate_size")),
        vocabulary_size=settings.whole("vocab_size"),
        context_length=settings.whole("max_position_embeddings"),
        kinds=settings.whole("type_vocab_size"),
        norm_embeddings=True,
    )


def _embedded(source: Source) -> State:
    names = {
        "embedding.token": "word_embeddings",
        "embedding.position": "position_embeddings",
        "kind": "token_type_embeddings",
    }
    state: State = {}
    for ours, theirs in names.items():
        state |= source.tensor(f"{ours}.weight", f"embeddings.{theirs}.weight")
    return state
