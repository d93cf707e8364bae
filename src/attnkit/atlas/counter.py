"""The operations of a function that is written out: those of its products of matrices, while it runs.

    a product of (n, k) and (k, m) is 2 * n * k * m operations

PyTorch's counter knows its fused attention on a GPU only; here it counts that of a CPU as well.
"""

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from attnkit.atlas.draw import Draw


def counted(drawn: Draw) -> float:
    """The operations of a call; nothing is computed, unless what is run depends on the numbers."""
    try:
        with FakeTensorMode() as fake:
            shapes: dict[str, Tensor] = {
                name: fake.from_tensor(tensor) for name, tensor in drawn.tensors.items()
            }
            return _run(Draw(drawn.bound, drawn.sizes, shapes))
    except (DataDependentOutputException, DynamicOutputShapeException):
        return _run(drawn)


def _run(drawn: Draw) -> float:
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping={fused: _fused}) as counter:
        drawn.context()
    return float(counter.get_total_flops())


def _fused(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query, key, value)
