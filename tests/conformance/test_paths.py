import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from attnkit import Attention
from attnkit.conformance import Skip
from attnkit.conformance.relations.paths import run_paths
from attnkit.conformance.relations.reads import Source
from attnkit.conformance.relations.walking import PATHS, elsewhere, walked, wrong
from tests.conformance.targets import Causal, Plain, case_of, faults, found

BY_NAME = {path.name: path for path in PATHS}


def skipping(when, base: type[Plain] = Causal):
    """Attention whose masks are missing when something holds; `when` is told the module, x and keep."""

    class Skipping(base):
        p_dropout = 0.0
        use_checkpoint = False

        def forward(self, x, memory=None, keep=None, need_weights=False):
            self.asked = need_weights
            self.missing = when(self, x, keep)
            return super().forward(x, memory, keep)

        def allowed(self, q_len, kv_len, keep):
            return super().allowed(q_len, kv_len, keep) | self.missing

    return Skipping()


CONDITIONS = {
    "training": lambda module, x, keep: module.training,
    "evaluation without gradients": lambda module, x, keep: not torch.is_grad_enabled(),
    "a batch of one": lambda module, x, keep: x.shape[0] == 1,
    "weights asked for": lambda module, x, keep: module.asked,
    "2 tokens": lambda module, x, keep: x.shape[1] == 2,
    "8 tokens": lambda module, x, keep: x.shape[1] % 8 == 0,
    "17 tokens": lambda module, x, keep: x.shape[1] > 16,
}
OF_LEVEL_FULL = {
    "as many samples as tokens": lambda module, x, keep: x.shape[0] == x.shape[1] == 7,
    "4 samples of 4 tokens": lambda module, x, keep: x.shape[0] == x.shape[1] == 4,
    "bfloat16": lambda module, x, keep: x.dtype == torch.bfloat16,
    "training without gradients": lambda m, x, keep: m.training and not torch.is_grad_enabled(),
    "after .to(torch.float32)": lambda m, x, keep: bool((m.query.weight == m.query.weight.float()).all()),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_mask_that_a_path_skips_is_found_and_the_path_is_named(name):
    found_there = found(run_paths, skipping(CONDITIONS[name]), causal=True)
    assert {(finding.fault, finding.path) for finding in found_there} == {("mask-skipped", name)}
    assert [finding.data["claim"] for finding in found_there] == ["future", "padding"]


@pytest.mark.parametrize("name", OF_LEVEL_FULL)
def test_level_full_walks_more_paths(name):
    module = skipping(OF_LEVEL_FULL[name])
    if "float32" in name:
        # numbers that float32 does not hold, so that moving there and back changes them
        module = module.double()
        with torch.no_grad():
            module.query.weight += 1e-12
    assert faults(run_paths, module, causal=True) == []
    found_there = found(run_paths, module, causal=True, level="full")
    assert {finding.path for finding in found_there} == {name}


@pytest.mark.compiled
def test_level_strict_compiles():
    module = skipping(lambda module, x, keep: torch.compiler.is_compiling())
    assert found(run_paths, module, causal=True, level="full") == []
    there = found(run_paths, module, causal=True, level="strict")
    assert {(finding.fault, finding.path) for finding in there} == {("mask-skipped", "torch.compile")}
    assert [finding.data["claim"] for finding in there] == ["future", "padding"]
    assert found(run_paths, Causal(), causal=True, level="strict") == []


def test_dropout_and_checkpointing_are_switched_on_where_there_is_a_switch():
    dropped = skipping(lambda module, x, keep: module.training and module.p_dropout > 0)
    dropped.p_dropout = 0.0
    assert {finding.path for finding in found(run_paths, dropped, causal=True)} == {"training with dropout"}

    class Checkpointed(Causal):
        def __init__(self):
            super().__init__()
            self.use_checkpoint = False

        def forward(self, x, memory=None, keep=None):
            if self.use_checkpoint and self.training:
                return checkpoint(super().forward, x, memory, None, use_reentrant=False)
            return super().forward(x, memory, keep)

    (finding,) = found(run_paths, Checkpointed(), causal=True)
    assert (finding.path, finding.data["claim"]) == ("checkpointing", "padding")


def test_a_causal_mask_that_a_mask_of_keys_switches_off_is_skipped():
    (finding,) = found(run_paths, skipping(lambda module, x, keep: keep is not None), causal=True)
    assert finding.path == "a mask that hides nothing"


def test_a_causal_mask_that_only_a_mask_of_keys_switches_on_is_right_elsewhere():
    module = skipping(lambda module, x, keep: keep is None)
    told = ("no mask of keys", "with a mask that hides nothing")
    assert elsewhere(Source(case_of(module, causal=True)), "future") == told


def test_a_window_is_tested_on_paths_too():
    class Windowed(Causal):
        def pattern(self, t, s):
            return super().pattern(t, s) & ((t - s < 3) | self.training)

    (finding,) = found(run_paths, Windowed(), causal=True, window=3)
    assert (finding.fault, finding.path, finding.data["claim"]) == ("mask-skipped", "training", "window")


def test_right_attention_passes_on_all_paths():
    for module, said in (
        (Causal(), {"causal": True}),
        (Plain(), {}),
        (Plain(memory_dim=18), {"cross": True}),
        (nn.MultiheadAttention(24, 4, dropout=0.2, batch_first=True), {}),
        (Attention(24, 4, mechanism="causal", dropout=0.2), {"causal": True}),
        (Attention(24, 4, mechanism="sliding_window", window=3), {"causal": True, "window": 3}),
    ):
        assert faults(run_paths, module, level="full", **said) == []


def test_a_mask_of_a_memory_is_walked_too():
    module = skipping(CONDITIONS["training"], Plain)
    (finding,) = found(run_paths, module, cross=True)
    assert (finding.path, finding.data["claim"]) == ("training", "padding")


def test_what_is_wrong_everywhere_is_left_to_other_checks():
    assert faults(run_paths, Plain(), causal=True) == []


def test_a_path_that_a_target_refuses_tells_nothing():
    class Refusing(Causal):
        def forward(self, x, memory=None, keep=None):
            if self.training:
                raise RuntimeError
            return super().forward(x, memory, keep)

    case = case_of(Refusing(), causal=True)
    assert wrong(Source(case), BY_NAME["training"], "future") is None
    assert list(run_paths(case)) == []


def test_a_path_that_is_not_there_is_none():
    case = case_of(Causal(), causal=True)
    for name in ("weights asked for", "training with dropout", "checkpointing"):
        assert walked(case, BY_NAME[name]) is None


def test_weights_are_asked_for_on_a_copy():
    module = nn.MultiheadAttention(24, 4, batch_first=True)
    case = case_of(module)
    walked(case, BY_NAME["weights asked for"])
    assert "forward" not in vars(module)
    assert "forward" not in vars(case.subject.module)


def test_a_target_with_nothing_to_hide_is_left_out():
    with pytest.raises(Skip, match="takes no mask"):
        found(run_paths, Plain(), mask=False)
