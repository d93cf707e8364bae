"""Attention modules of transformers, made small: each is the first attention of its model, as the model made it.

`transformers` is Apache-2.0. A row: name, configuration class, its settings, and where the attention lies in the model.
"""

import importlib

import torch
from torch import nn

BERT = {
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "intermediate_size": 8,
    "vocab_size": 32,
}
LLAMA = BERT | {"num_key_value_heads": 2, "max_position_embeddings": 128}
EXPERTS = LLAMA | {"head_dim": 6, "num_local_experts": 2, "num_experts_per_tok": 1, "pad_token_id": 0}
GEMMA = LLAMA | {"head_dim": 6, "num_hidden_layers": 2}
VISION = {key: BERT[key] for key in BERT if key != "vocab_size"} | {"image_size": 8, "patch_size": 4}
GPT2 = {"n_embd": 24, "n_head": 4, "n_layer": 1, "vocab_size": 32, "n_positions": 128}
BART = {
    "d_model": 24, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "vocab_size": 32,
    "max_position_embeddings": 128, "pad_token_id": 1, "forced_eos_token_id": 2,
}  # fmt: skip
SPEECH = BART | {"num_mel_bins": 4, "max_source_positions": 64, "max_target_positions": 64}
T5 = {"d_model": 24, "d_kv": 6, "d_ff": 8, "num_layers": 1, "num_heads": 4, "vocab_size": 32}
WAV = BERT | {"conv_dim": (8,), "conv_stride": (2,), "conv_kernel": (3,), "num_conv_pos_embeddings": 4,
              "num_conv_pos_embedding_groups": 2, "num_feat_extract_layers": 1}  # fmt: skip

ROWS = (
    ("llama", "LlamaConfig", LLAMA, "layers.0.self_attn"),
    ("mistral", "MistralConfig", LLAMA | {"sliding_window": 3}, "layers.0.self_attn"),
    ("qwen2", "Qwen2Config", LLAMA, "layers.0.self_attn"),
    ("qwen3", "Qwen3Config", LLAMA | {"head_dim": 6}, "layers.0.self_attn"),
    ("gemma", "GemmaConfig", GEMMA, "layers.0.self_attn"),
    ("gemma2", "Gemma2Config", GEMMA | {"sliding_window": 3}, "layers.0.self_attn"),
    ("gemma2-full", "Gemma2Config", GEMMA | {"sliding_window": 3}, "layers.1.self_attn"),
    ("gemma3", "Gemma3TextConfig", GEMMA | {"sliding_window": 3}, "layers.0.self_attn"),
    ("phi", "PhiConfig", BERT | {"num_attention_heads": 3}, "layers.0.self_attn"),
    ("phi3", "Phi3Config", LLAMA | {"pad_token_id": 0}, "layers.0.self_attn"),
    ("cohere", "CohereConfig", LLAMA, "layers.0.self_attn"),
    ("olmo", "OlmoConfig", LLAMA, "layers.0.self_attn"),
    ("olmo2", "Olmo2Config", LLAMA, "layers.0.self_attn"),
    ("starcoder2", "Starcoder2Config", LLAMA, "layers.0.self_attn"),
    ("granite", "GraniteConfig", LLAMA, "layers.0.self_attn"),
    ("stablelm", "StableLmConfig", LLAMA, "layers.0.self_attn"),
    ("smollm3", "SmolLM3Config", LLAMA | {"pad_token_id": 0}, "layers.0.self_attn"),
    ("glm", "GlmConfig", LLAMA | {"head_dim": 6, "pad_token_id": 0}, "layers.0.self_attn"),
    ("gpt-oss", "GptOssConfig", EXPERTS, "layers.0.self_attn"),
    ("gpt2", "GPT2Config", GPT2, "h.0.attn"),
    ("gptj", "GPTJConfig", GPT2 | {"rotary_dim": 4}, "h.0.attn"),
    ("codegen", "CodeGenConfig", GPT2 | {"rotary_dim": 4}, "h.0.attn"),
    ("gpt-neo", "GPTNeoConfig", {"hidden_size": 24, "num_heads": 4, "num_layers": 2, "vocab_size": 32, "window_size": 3,
                                 "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 128},
     "h.0.attn.attention"),
    ("gpt-neo-local", "GPTNeoConfig", {"hidden_size": 24, "num_heads": 4, "num_layers": 2, "vocab_size": 32,
                                       "window_size": 3, "attention_types": [[["global", "local"], 1]],
                                       "max_position_embeddings": 128}, "h.1.attn.attention"),
    ("gpt-neox", "GPTNeoXConfig", BERT, "layers.0.attention"),
    ("opt", "OPTConfig", BERT | {"ffn_dim": 8, "word_embed_proj_dim": 24}, "decoder.layers.0.self_attn"),
    ("bloom", "BloomConfig", {"hidden_size": 24, "n_head": 4, "n_layer": 1, "vocab_size": 32}, "h.0.self_attention"),
    ("falcon", "FalconConfig", BERT | {"alibi": False}, "h.0.self_attention"),
    ("falcon-alibi", "FalconConfig", BERT | {"alibi": True, "multi_query": False}, "h.0.self_attention"),
    ("bert", "BertConfig", BERT, "encoder.layer.0.attention.self"),
    ("bert-decoder", "BertConfig", BERT | {"is_decoder": True}, "encoder.layer.0.attention.self"),
    ("roberta", "RobertaConfig", BERT, "encoder.layer.0.attention.self"),
    ("electra", "ElectraConfig", BERT | {"embedding_size": 24}, "encoder.layer.0.attention.self"),
    ("distilbert", "DistilBertConfig", {"dim": 24, "n_heads": 4, "n_layers": 1, "hidden_dim": 8, "vocab_size": 32},
     "transformer.layer.0.attention"),
    ("vit", "ViTConfig", VISION, "*ViTAttention"),
    ("deit", "DeiTConfig", VISION, "*DeiTAttention"),
    ("dinov2", "Dinov2Config", VISION, "*Dinov2Attention"),
    ("clip-vision", "CLIPVisionConfig", VISION, "*CLIPAttention"),
    ("siglip-vision", "SiglipVisionConfig", VISION, "*SiglipAttention"),
    ("bart", "BartConfig", BART, "encoder.layers.0.self_attn"),
    ("bart-decoder", "BartConfig", BART, "decoder.layers.0.self_attn"),
    ("bart-cross", "BartConfig", BART, "decoder.layers.0.encoder_attn"),
    ("mbart", "MBartConfig", BART, "encoder.layers.0.self_attn"),
    ("marian", "MarianConfig", BART | {"decoder_start_token_id": 0}, "decoder.layers.0.self_attn"),
    ("pegasus", "PegasusConfig", BART, "encoder.layers.0.self_attn"),
    ("whisper", "WhisperConfig", SPEECH, "encoder.layers.0.self_attn"),
    ("whisper-decoder", "WhisperConfig", SPEECH, "decoder.layers.0.self_attn"),
    ("whisper-cross", "WhisperConfig", SPEECH, "decoder.layers.0.encoder_attn"),
    ("t5", "T5Config", T5, "encoder.block.0.layer.0.SelfAttention"),
    ("t5-decoder", "T5Config", T5, "decoder.block.0.layer.0.SelfAttention"),
    ("t5-cross", "T5Config", T5, "decoder.block.0.layer.1.EncDecAttention"),
    ("wav2vec2", "Wav2Vec2Config", WAV, "encoder.layers.0.attention"),
)  # fmt: skip


def transformers_model(row):
    """The model of one row, and its attention."""
    transformers = importlib.import_module("transformers")
    _, config, settings, place = row
    model = transformers.AutoModel.from_config(getattr(transformers, config)(**settings))
    if place.startswith("*"):
        module = next(part for part in model.modules() if type(part).__name__ == place[1:])
    else:
        module = model.get_submodule(place)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:  # they start so small that all weights are near to uniform
                nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return model, module


def transformers_module(row):
    """The attention of one row, and what has to be said of it."""
    return transformers_model(row)[1], {"cross": True} if row[0].endswith("-cross") else {}
