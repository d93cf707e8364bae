"""Small random models of transformers, with weights large enough that attention is peaked."""

import copy
import warnings

import pytest
import torch

from attnkit.hf import register

transformers = pytest.importorskip("transformers")

VOCABULARY, LENGTH = 40, 11
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "bos_token_id": None,
    "eos_token_id": None,
}
GROUPED = SIZES | {"num_key_value_heads": 2}
WIDE = GROUPED | {"head_dim": 6}
SEQ2SEQ = {
    "vocab_size": VOCABULARY,
    "d_model": 24,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": None,
}
DECODERS = {
    "llama": ("LlamaForCausalLM", GROUPED),
    "qwen3": ("Qwen3ForCausalLM", WIDE),
    "gemma2": ("Gemma2ForCausalLM", WIDE | {"sliding_window": 3, "attn_logit_softcapping": 2.0}),
    "gemma3": (
        "Gemma3ForCausalLM",
        WIDE
        | {"sliding_window": 3, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "mistral": ("MistralForCausalLM", GROUPED | {"sliding_window": 3}),
    "gpt2": (
        "GPT2LMHeadModel",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 24,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 64,
            "bos_token_id": None,
            "eos_token_id": None,
        },
    ),
    "gpt_oss": (
        "GptOssForCausalLM",
        WIDE
        | {
            "sliding_window": 3,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
    ),
}
READERS = {
    "t5": ("T5ForConditionalGeneration", SEQ2SEQ | {"d_kv": 6, "num_heads": 4, "d_ff": 32, "num_layers": 2}),
    "bart": (
        "BartForConditionalGeneration",
        SEQ2SEQ
        | {
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32,
            "max_position_embeddings": 64,
            "bos_token_id": 1,
            "forced_eos_token_id": None,
        },
    ),
}
OTHERS = {
    "bert": ("BertModel", SIZES),
    "vit": (
        "ViTModel",
        {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 32,
            "image_size": 16,
            "patch_size": 4,
        },
    ),
}
EVERY = DECODERS | READERS | OTHERS


def theirs(name, attention="eager", **more):
    """A model of this kind, its attention transformers' own."""
    kind, settings = EVERY[name]
    config = getattr(transformers, kind).config_class(**(settings | more))
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = getattr(transformers, kind)._from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "sinks" in parameter_name:
                parameter.normal_()
            elif parameter.dim() > 1 and "embed" not in parameter_name:
                parameter.mul_(6)
    return model


def by_rule(model, rule=None, name=None, **options):
    """A copy of a model that attends by a rule."""
    same = copy.deepcopy(model)
    same.set_attn_implementation(register(name or "attnkit", rule, replace=True, **options))
    return same


def tokens(batch=3, length=LENGTH, seed=0):
    return torch.randint(1, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def padded_left():
    """1 where there is a token, for three texts, the first without padding."""
    return (torch.arange(LENGTH) >= torch.tensor([0, 4, 1])[:, None]).long()


def within(found, wanted, bound=1e-5):
    """Every number within `bound` of the largest, in float32."""
    assert found.isfinite().all()
    assert (found - wanted).abs().max() <= bound * wanted.abs().max()
