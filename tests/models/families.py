"""Random tiny models of transformers, by kind and seed: what `load` is compared with."""

import random
import tempfile
from functools import cache

import pytest
import torch

from attnkit.models.loading import load

VOCABULARY = 61
LENGTH = 17


class Draw:
    """Draws sizes: another of each list for each seed, so that three seeds have all that up to three can be."""

    def __init__(self, name, seed):
        self.seed, self.random = seed, random.Random(name)  # a text seeds alike in every process

    def choice(self, options):
        return options[(self.random.randrange(len(options)) + self.seed) % len(options)]


def decoder(draw):
    """Sizes that Llama and its kin have in common."""
    kv_heads, group, head_dim = draw.choice([1, 2, 3]), draw.choice([1, 2, 3]), draw.choice([4, 6, 10])
    return {
        "hidden_size": kv_heads * group * head_dim,
        "num_attention_heads": kv_heads * group,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "num_hidden_layers": draw.choice([1, 2, 3]),
        "intermediate_size": draw.choice([24, 40]),
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 32,
        "rms_norm_eps": draw.choice([1e-6, 1e-5]),
        "tie_word_embeddings": draw.choice([True, False]),
        "rope_parameters": {"rope_type": "default", "rope_theta": draw.choice([10_000.0, 500.0])},
    }


def scaling(draw, kind):
    """Rotary positions that are stretched."""
    told = {
        "rope_type": kind,
        "rope_theta": draw.choice([10_000.0, 500.0]),
        "factor": draw.choice([2.0, 8.0]),
    }
    if kind == "linear":
        return told
    told |= {"original_max_position_embeddings": draw.choice([8, 16])}
    return told | {"low_freq_factor": 1.0, "high_freq_factor": 4.0} if kind == "llama3" else told


def gpt2(draw):
    heads = draw.choice([1, 2, 5])
    return {
        "n_embd": heads * draw.choice([4, 6]),
        "n_head": heads,
        "n_layer": draw.choice([1, 2, 3]),
        "n_inner": draw.choice([None, 40]),
        "n_positions": 32,
        "vocab_size": VOCABULARY,
        "activation_function": draw.choice(["gelu_new", "gelu", "relu"]),
        "tie_word_embeddings": draw.choice([True, True, False]),
    }


def llama(draw):
    return decoder(draw) | {
        "attention_bias": draw.choice([True, False]),
        "mlp_bias": draw.choice([True, False]),
    }


def mistral(draw):
    return decoder(draw) | {"sliding_window": draw.choice([3, 5, None])}


def qwen3(draw):
    sizes = decoder(draw) | {"attention_bias": draw.choice([True, False])}
    windows = {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
    return sizes | draw.choice([{}, windows])


def gemma2(draw):
    return decoder(draw) | {
        "num_hidden_layers": draw.choice([2, 3]),
        "sliding_window": draw.choice([3, 5]),
        "query_pre_attn_scalar": draw.choice([6, 12]),
        "attn_logit_softcapping": draw.choice([None, 4.0]),
        "final_logit_softcapping": draw.choice([None, 3.0]),
        "tie_word_embeddings": True,
    }


def deepseek(draw):
    sizes, head_dim = decoder(draw), draw.choice([4, 8])
    del sizes["head_dim"]
    return sizes | {
        "num_key_value_heads": sizes["num_attention_heads"],
        "first_k_dense_replace": sizes["num_hidden_layers"],
        "num_mtp_layers": 0,
        "q_lora_rank": draw.choice([None, 7]),
        "kv_lora_rank": draw.choice([5, 20]),
        "qk_nope_head_dim": head_dim,
        "v_head_dim": head_dim,
        "qk_rope_head_dim": draw.choice([4, 6]),
        "rope_interleave": draw.choice([True, True, False]),
    }


def encoder(draw):
    heads = draw.choice([1, 3, 4])
    return {
        "hidden_size": heads * draw.choice([4, 6]),
        "num_attention_heads": heads,
        "num_hidden_layers": draw.choice([1, 2, 3]),
        "intermediate_size": draw.choice([24, 40]),
        "hidden_act": draw.choice(["gelu", "gelu_new", "relu"]),
    }


def bert(draw):
    return encoder(draw) | {"vocab_size": VOCABULARY, "max_position_embeddings": 32, "type_vocab_size": 2}


def albert(draw):
    return bert(draw) | {"embedding_size": draw.choice([5, 16])}


def vit(draw):
    channels = {"num_channels": draw.choice([1, 3]), "image_size": 16, "patch_size": draw.choice([4, 8])}
    return encoder(draw) | channels | {"qkv_bias": draw.choice([True, False])}


def dinov2(draw):
    sizes = vit(draw) | {"mlp_ratio": draw.choice([2, 4]), "layerscale_value": 0.5}
    del sizes["intermediate_size"]
    return sizes


def t5(draw):
    return {
        "d_model": draw.choice([12, 20]),
        "d_kv": draw.choice([4, 6]),
        "num_heads": draw.choice([1, 3]),
        "num_layers": draw.choice([1, 2]),
        "num_decoder_layers": draw.choice([1, 3]),
        "d_ff": 24,
        "vocab_size": VOCABULARY,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": draw.choice([10, 16]),
        "feed_forward_proj": draw.choice(["relu", "gated-gelu"]),
        "tie_word_embeddings": draw.choice([True, False]),
    }


def stretched(kind):
    return lambda draw: llama(draw) | {"rope_parameters": scaling(draw, kind)}


def deepseek_yarn(draw):
    told = scaling(draw, "yarn") | {"mscale": draw.choice([1.0, 0.7]), "mscale_all_dim": 1.0}
    return deepseek(draw) | {"rope_parameters": told}


FAMILIES = {
    "gpt2": ("GPT2LMHeadModel", gpt2),
    "llama": ("LlamaForCausalLM", llama),
    "llama, linear": ("LlamaForCausalLM", stretched("linear")),
    "llama, llama3": ("LlamaForCausalLM", stretched("llama3")),
    "llama, yarn": ("LlamaForCausalLM", stretched("yarn")),
    "mistral": ("MistralForCausalLM", mistral),
    "qwen3": ("Qwen3ForCausalLM", qwen3),
    "gemma2": ("Gemma2ForCausalLM", gemma2),
    "deepseek": ("DeepseekV3ForCausalLM", deepseek),
    "deepseek, yarn": ("DeepseekV3ForCausalLM", deepseek_yarn),
    "bert": ("BertModel", bert),
    "bert, masked": ("BertForMaskedLM", bert),
    "albert": ("AlbertModel", albert),
    "vit": ("ViTModel", vit),
    "vit, classes": ("ViTForImageClassification", vit),
    "dinov2": ("Dinov2Model", dinov2),
    "t5": ("T5ForConditionalGeneration", t5),
}
SEEDS = range(3)
DECODERS = [
    name for name in FAMILIES if name.startswith(("gpt2", "llama", "mistral", "qwen3", "gemma2", "deepseek"))
]
IMAGES = ("vit", "vit, classes", "dinov2")


def peaked(model, seed):
    """Random weights that do not lie near the uniform: norms and biases, too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                parameter.copy_(noise * (2 / parameter.shape[-1]) ** 0.5)
            else:
                parameter.add_(0.2 * noise)
    return model.eval()


@cache
def theirs(name, seed):
    """Their model with random sizes and weights."""
    transformers = pytest.importorskip("transformers")
    kind, sizes = FAMILIES[name]
    made = getattr(transformers, kind)
    settings = made.config_class(**sizes(Draw(name, seed)), attn_implementation="eager")
    return peaked(made(settings), seed)


@cache
def pair(name, seed, dtype=torch.float32):
    """Their model, and ours with the same weights, from the file that they save."""
    model = theirs(name, seed)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        ours = load(folder, dtype=dtype)
    return model, ours
