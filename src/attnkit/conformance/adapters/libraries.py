"""Which adapter a module's type has: this project's layers, PyTorch's own, and those of some libraries."""

from torch import nn

from attnkit.conformance.adapters import hugging_face, lucidrains, own, torch_layers
from attnkit.conformance.adapters.knowledge import Known
from attnkit.conformance.declared import Declared


def known(module: nn.Module, declared: Declared) -> Known | None:
    """What is known of `module`; None where its type is none of these."""
    for adapter in (own, torch_layers, hugging_face, lucidrains):
        found = adapter.known(module, declared)
        if found is not None:
            return found
    return None
