"""Vision transformers as Hugging Face saves them: ViT, and DINOv2, which scales what each part adds."""

from attnkit.models.loading.encoders import stack_of
from attnkit.models.loading.settings import Settings
from attnkit.models.loading.source import Source, State, precise
from attnkit.models.vision import VisionTransformer

Loaded = tuple[VisionTransformer, State]
_ATTENTION = {
    "attention.query": "attention.attention.query",
    "attention.key": "attention.attention.key",
    "attention.value": "attention.attention.value",
    "attention.output": "attention.output.dense",
}
_VIT = _ATTENTION | {
    "norms.attention": "layernorm_before",
    "norms.feed_forward": "layernorm_after",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
}
_DINOV2 = _ATTENTION | {
    "norms.attention": "norm1",
    "norms.feed_forward": "norm2",
    "feed_forward.up": "mlp.fc1",
    "feed_forward.down": "mlp.fc2",
}


def vit(source: Source) -> Loaded:
    """The vision transformer: norms before each part. The pooler is left out; a classifier is read if there is one."""
    source.drop_prefix("vit.", outside="classifier.")
    source.skip_parts("pooler.")
    classes, state = 0, _embedded(source)
    if source.has("classifier.weight"):
        state |= source.linear("classes", "classifier")
        width = source.settings.whole("hidden_size")
        classes = state["classes.weight"].numel() // width  # a wrong shape is refused in the end
    model = _model(source, source.settings.whole("intermediate_size"), classes)
    for layer in range(model.config.num_layers):
        state |= _layer(source, layer, _VIT, model.config.d_model)
    return model, state


def dinov2(source: Source) -> Loaded:
    """DINOv2, without heads: its factors of what a part adds go into the part's last map, which changes no output."""
    source.drop_prefix("dinov2.")
    source.skip("embeddings.mask_token")
    settings = source.settings
    settings.expect(use_swiglu_ffn=False)
    hidden = settings.whole("hidden_size") * settings.whole("mlp_ratio", default=4)
    model = _model(source, hidden, 0)
    width, state = model.config.d_model, _embedded(source)
    for layer in range(model.config.num_layers):
        state |= _layer(source, layer, _DINOV2, width)
        for number, (last, d_in) in enumerate(
            {"attention.output": width, "feed_forward.down": hidden}.items()
        ):
            factors = precise(source.take(f"encoder.layer.{layer}.layer_scale{number + 1}.lambda1", width))
            weight, bias = f"blocks.{layer}.{last}.weight", f"blocks.{layer}.{last}.bias"
            state[weight] = source.fitting(state, weight, width, d_in) * factors[:, None]
            state[bias] = source.fitting(state, bias, width) * factors
    return model, state


def _model(source: Source, hidden: int, num_classes: int) -> VisionTransformer:
    settings = source.settings
    return VisionTransformer(
        stack_of(settings, "pre", hidden),
        image_size=_side(settings, "image_size"),
        patch_size=_side(settings, "patch_size"),
        channels=settings.whole("num_channels", default=3),
        num_classes=num_classes,
    )


def _side(settings: Settings, name: str) -> int:
    """The pixels of a side, which may be given for both."""
    given = settings.get(name)
    if isinstance(given, list) and len(set(map(str, given))) == 1:
        return Settings(settings.place, {name: given[0]}).whole(name)
    return settings.whole(name)


def _embedded(source: Source) -> State:
    state = source.tensor("whole", "embeddings.cls_token")
    state |= source.tensor("position", "embeddings.position_embeddings")
    state |= source.linear("patch", "embeddings.patch_embeddings.projection")
    return state | source.linear("norm", "layernorm")


def _layer(source: Source, layer: int, names: dict[str, str], d_model: int) -> State:
    state = source.renamed(f"blocks.{layer}", f"encoder.layer.{layer}", names)
    if not source.settings.flag("qkv_bias", default=True):
        for name in ("query", "key", "value"):
            ours = f"blocks.{layer}.attention.{name}"
            state.setdefault(f"{ours}.bias", state[f"{ours}.weight"].new_zeros(d_model))
    return state
