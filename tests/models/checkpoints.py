"""Tiny checkpoints of Llama, written as Hugging Face lays them out, and as GGUF."""

import json

import torch
from safetensors.torch import save_file

D_MODEL, HEADS, KV_HEADS, HEAD_DIM, HIDDEN, VOCABULARY = 64, 4, 2, 16, 96, 11
CONFIG = {
    "model_type": "llama",
    "hidden_size": D_MODEL,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "intermediate_size": HIDDEN,
    "hidden_act": "silu",
    "max_position_embeddings": 32,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
    "tie_word_embeddings": False,
    "vocab_size": VOCABULARY,
}
STRANGE = (None, 0, -1, 3, 10**9, 0.5, "x", [], {}, True, float("nan"), [1, 2], {"rope_type": 1})
QUERY = "model.layers.1.self_attn.q_proj.weight"


def tensors(dtype=torch.float32):
    """Random weights, peaked, under the names of Hugging Face."""
    shapes = {
        "model.embed_tokens": (VOCABULARY, D_MODEL),
        "lm_head": (VOCABULARY, D_MODEL),
        "model.norm": (D_MODEL,),
    }
    for layer in range(2):
        begin = f"model.layers.{layer}"
        shapes |= {
            f"{begin}.input_layernorm": (D_MODEL,),
            f"{begin}.post_attention_layernorm": (D_MODEL,),
            f"{begin}.self_attn.q_proj": (HEADS * HEAD_DIM, D_MODEL),
            f"{begin}.self_attn.k_proj": (KV_HEADS * HEAD_DIM, D_MODEL),
            f"{begin}.self_attn.v_proj": (KV_HEADS * HEAD_DIM, D_MODEL),
            f"{begin}.self_attn.o_proj": (D_MODEL, HEADS * HEAD_DIM),
            f"{begin}.mlp.gate_proj": (HIDDEN, D_MODEL),
            f"{begin}.mlp.up_proj": (HIDDEN, D_MODEL),
            f"{begin}.mlp.down_proj": (D_MODEL, HIDDEN),
        }
    generator = torch.Generator().manual_seed(3)
    made = {f"{name}.weight": 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: tensor.to(dtype) for name, tensor in made.items()}


def write(folder, weights=None, /, **config):
    """A folder with a checkpoint; `config` changes settings, None takes one away."""
    settings = {name: value for name, value in (CONFIG | config).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(settings))
    save_file(tensors() if weights is None else weights, folder / "model.safetensors")
    return folder


def write_shards(folder, files, *, listed=None):
    """A folder with a checkpoint in several files, {file: tensors}, and their index, {tensor: file}."""
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for name, weights in files.items():
        save_file(weights, folder / name)
    if listed is None:
        listed = {tensor: name for name, weights in files.items() for tensor in weights}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    return folder


def halves():
    """The tensors in two files."""
    weights = tensors()
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    return {file: {name: weights[name] for name in part} for file, part in parts.items()}


def write_gguf(path, weights, *, packed="F32", architecture="llama", without=(), **values):
    """A GGUF file of Llama, made by the package gguf; query and key with neighbours to turn, as such files have."""
    import gguf

    kind = gguf.GGMLQuantizationType[packed]
    writer = gguf.GGUFWriter(path, architecture)
    header = {
        "block_count": 2,
        "context_length": 32,
        "embedding_length": D_MODEL,
        "feed_forward_length": HIDDEN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "rope.dimension_count": HEAD_DIM,
        "vocab_size": VOCABULARY,
    } | values
    for name in set(header) - set(without):
        writer.add_uint32(f"{architecture}.{name}", header[name])
    writer.add_float32(f"{architecture}.rope.freq_base", CONFIG["rope_theta"])
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", CONFIG["rms_norm_eps"])
    writer.add_array("tokenizer.ggml.tokens", [f"t{number}" for number in range(VOCABULARY)])
    for name, tensor in weights.items():
        plain = tensor.dim() == 1 or packed == "F32"
        numbers = tensor.numpy() if plain else gguf.quantize(tensor.numpy(), kind)
        writer.add_tensor(name, numbers, raw_dtype=gguf.GGMLQuantizationType.F32 if plain else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_tensors():
    """Random weights under the names of GGUF."""
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    parts = {
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for layer in range(2):
        names |= {f"model.layers.{layer}.{there}": f"blk.{layer}.{here}" for there, here in parts.items()}
    return {f"{names[name.removesuffix('.weight')]}.weight": tensor for name, tensor in tensors().items()}
