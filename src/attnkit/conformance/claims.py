"""What may be held against a target that nobody said more about: a fault in one's own code may be a library's design.

T5 does not scale, Gemma scales by a number of its own, a sink takes weight from every row: each is right where it is
meant.
"""

from torch import nn

from attnkit.conformance.case import Case
from attnkit.laws import rows_sum_to_one
from attnkit.layers.attention import Attention

LIBRARIES = (
    "attnkit", "transformers", "diffusers", "timm", "x_transformers", "xformers", "flash_attn", "fla", "torchtune",
    "fairseq", "speechbrain", "open_clip", "torchvision", "torchaudio", "esm", "vllm", "performer_pytorch",
    "linformer", "nystrom_attention", "perceiver_pytorch", "conformer", "vit_pytorch", "linear_attention_transformer",
    "routing_transformer", "reformer_pytorch", "mega_pytorch", "axial_attention",
)  # fmt: skip


def from_a_library(case: Case) -> bool:
    """Whether any part of the target is a library's own, whose designs are no faults; PyTorch's own parts are usual."""
    return any(
        type(part).__module__.split(".")[0] in LIBRARIES
        for part in case.subject.module.modules()
        if not hasattr(part, "function")  # a function between projections of ours
    )


def normalised(case: Case) -> bool:
    """Whether the weights of a query should sum to one, as far as is declared or known."""
    if case.declared.normalised is not None:
        return case.declared.normalised
    module = case.subject.module
    if isinstance(module, Attention):
        return rows_sum_to_one in module.mechanism.laws
    adds_a_key = any(
        part.add_zero_attn or part.bias_k is not None
        for part in module.modules()
        if isinstance(part, nn.MultiheadAttention)
    )
    sink = any("sink" in name for name, _ in (*module.named_parameters(), *module.named_buffers()))
    return not (from_a_library(case) or adds_a_key or sink)


def unless_meant(case: Case, fault: str) -> str:
    """What to declare where weights that do not sum to one are meant, as the end of a sentence."""
    if fault != "softmax-missing" or case.declared.normalised is not None:
        return ""
    return "; where weights need not sum to one, say normalised=False"


def need_own(case: Case) -> None:
    """Leave a check out for a library's module, whose designs are no faults.

    Raises:
        Skip: the target is one.
    """
    case.need(not from_a_library(case), "it is a library's own, whose designs are no faults")
