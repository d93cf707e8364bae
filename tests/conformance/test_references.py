"""A target and its reference: equal ones pass, and what differs is told in numbers, by the reference alone."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from attnkit import Attention, all_mechanisms, masks, positions
from attnkit.conformance import CHECKS, Reference, check
from attnkit.conformance.comparing import compared_with
from attnkit.conformance.relations import references
from attnkit.conformance.relations.references import run_reference, run_reference_padded
from tests.conformance.making import case_of
from tests.conformance.trusted_transformers import ROWS, transformers_module
from tests.mutants import MUTANTS
from tests.mutants.base import CAUSAL_SAID, SETTINGS, CrossAttention
from tests.mutants.base import Attention as Steps

pytestmark = pytest.mark.slow  # whole checks

BY_NAME = {setting.name: setting for setting in SETTINGS}
WINDOW = Reference("sliding_window", options={"window": 3})
ROTARY = Reference("causal", options={"positions": positions.Rotary()})
# by hand and by the catalogue: two programs that share no line
EQUAL = {
    "encoder": "full", "causal": "causal", "grouped": "grouped_query", "rotary": ROTARY, "alibi": "alibi",
    "window": WINDOW, "dropout": "causal", "cross": "full", "cross-same-width": "full", "cached": "causal",
    "cached-window": WINDOW, "scaled": Reference("unscaled", options={"mask": masks.full}),
    "softcap": Reference("softcap", options={"cap": 5.0, "mask": masks.full}),
}  # fmt: skip


def found(target, reference, **said):
    """What the two checks of a reference find, and nothing else is tried."""
    case = case_of(target, reference=reference, **said)
    case.facts["reference"] = compared_with(case, Reference.of(reference))
    runs = (run_reference, run_reference_padded) if case.subject.takes_keep else (run_reference,)
    return [finding for run in runs for finding in run(case)]


@pytest.mark.parametrize("name", EQUAL)
def test_attention_by_hand_is_as_the_catalogue_computes_it(name, monkeypatch):
    # measured over five seeds: 6e-16 of the largest output, 3e-14 of a gradient
    monkeypatch.setattr(references, "ROUNDING", 1e-12)
    monkeypatch.setattr(references, "NONE", 1e-12)
    setting = BY_NAME[name]
    assert found(setting.base(**setting.built), EQUAL[name], **setting.said) == []


@pytest.mark.parametrize(
    ("module", "reference", "said"),
    [
        (nn.MultiheadAttention(24, 4, batch_first=True), "full", {}),
        (nn.MultiheadAttention(24, 4, bias=False), "full", {}),
        (nn.MultiheadAttention(24, 4, dropout=0.2), "causal", {"causal": True}),
        (nn.MultiheadAttention(24, 4, kdim=18, vdim=18), "full", {"cross": True}),
    ],
    ids=["batch first", "without bias", "causal", "a memory"],
)
def test_torch_is_as_the_catalogue_computes_it(module, reference, said, monkeypatch):
    monkeypatch.setattr(references, "ROUNDING", 1e-12)
    monkeypatch.setattr(references, "NONE", 1e-12)
    assert found(module, reference, **said) == []


@pytest.mark.parametrize("name", all_mechanisms())
def test_every_part_of_a_layer_finds_its_partner(name):
    options = all_mechanisms()[name].examples[0]
    torch.manual_seed(1)
    target = Attention(24, 4, mechanism=name, bias=True, **options)
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    assert found(target, Reference(name, options=options)) == []


@pytest.mark.parametrize(
    ("name", "settings", "reference"),
    [
        ("gpt2", {}, "causal"),  # one projection of three, turned
        ("gpt-neox", {"rotary_pct": 1.0}, ROTARY),  # a head's three together
        ("bloom", {}, "alibi"),
        ("llama", {}, ROTARY),
        ("whisper", {}, "full"),
        ("bart-cross", {}, "full"),
    ],
)
def test_attention_of_transformers_is_as_the_catalogue_computes_it(name, settings, reference):
    pytest.importorskip("transformers")
    name, config, usual, place = next(row for row in ROWS if row[0] == name)
    module, said = transformers_module((name, config, usual | settings, place))
    assert found(module, reference, **said) == []


def by_hand(module, x, memory, keep):
    """Attention a pair at a time, as slow as it is plain."""
    read = x if memory is None else memory
    query, key, value = module.query(x), module.key(read), module.value(read)
    context = torch.zeros_like(query)
    for head in range(4):
        part = slice(6 * head, 6 * head + 6)
        scores = query[..., part] @ key[..., part].mT / 6**0.5
        scores = scores if keep is None else scores.masked_fill(~keep[:, None], -torch.inf)
        context[..., part] = scores.softmax(-1) @ value[..., part]
    return module.output(context)


def test_a_function_reads_the_parameters_of_the_module_itself():
    assert found(Steps(), by_hand) == []
    assert found(CrossAttention(memory_dim=18), by_hand, cross=True, memory_dim=18) == []
    (finding, _) = found(Steps(causal=True), by_hand, **CAUSAL_SAID)
    assert finding.fault == "reference-mismatch"
    assert "the output is not that of by_hand: token " in finding.sentence


def attend(query, key, value):
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True)


def test_a_function_on_heads_has_one_for_a_reference():
    assert found(attend, lambda query, key, value: attend(query, key, value)) == []
    assert found(attend, "causal") == []
    assert found(attend, functional.scaled_dot_product_attention)[0].data["first"] == 0


class Renamed(nn.Module):
    """The same as `Steps(causal=True)`, under other names and without a mask of keys."""

    def __init__(self, right):
        super().__init__()
        self.to_q, self.to_out = copy.deepcopy(right.query), copy.deepcopy(right.output)
        self.both = nn.Linear(24, 48)
        with torch.no_grad():
            self.both.weight.copy_(torch.cat([right.key.weight, right.value.weight]))
            self.both.bias.copy_(torch.cat([right.key.bias, right.value.bias]))

    def forward(self, x):
        query, (key, value) = self.to_q(x), self.both(x).chunk(2, -1)
        heads = (part.unflatten(-1, (4, 6)).transpose(1, 2) for part in (query, key, value))
        return self.to_out(attend(*heads).transpose(1, 2).flatten(2))


RENAMED = {"query": "to_q", "key": "both[0:24]", "value": "both[24:48]", "output": "to_out"}


@pytest.mark.parametrize("source", [Steps(causal=True), "causal"], ids=["a module", "a mechanism"])
def test_weights_of_other_names_are_told_by_parts_and_rows(source):
    target = Renamed(Steps())
    assert found(target, Reference(source, weights=RENAMED), d_in=24, num_heads=4) == []
    swapped = RENAMED | {"key": "both[24:48]", "value": "both[0:24]"}
    assert found(target, Reference(source, weights=swapped), d_in=24, num_heads=4) != []


def test_several_weights_stand_one_under_another():
    target = Steps()
    names = ("query", "key", "value")
    weights = {
        "in_proj_weight": [f"{name}.weight" for name in names],
        "in_proj_bias": [f"{name}.bias" for name in names],
        "out_proj": "output",
    }
    assert found(target, Reference(nn.MultiheadAttention(24, 4), weights=weights)) == []
    zero = Reference(nn.MultiheadAttention(24, 4), weights=weights | {"in_proj_bias": None})
    (finding, _) = found(target, zero)
    assert "MultiheadAttention has nothing like query.bias, key.bias, value.bias" in finding.sentence


def test_a_parameter_that_serves_twice_has_the_sum_of_both_gradients():
    class Tied(Steps):
        def project(self, x, read):
            return self.query(x), self.query(read), self.value(read)

    tied = {"key": "query"}
    assert found(Tied(), Reference("full", weights=tied)) == []


def test_bare_parameters_stand_the_other_way_round():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            for name in ("query", "key", "value", "output"):
                setattr(self, f"W_{name}", nn.Parameter(torch.randn(24, 24) / 5))

        def forward(self, x):
            heads = (
                (x @ w).unflatten(-1, (4, 6)).transpose(1, 2)
                for w in (self.W_query, self.W_key, self.W_value)
            )
            return attend(*heads).transpose(1, 2).flatten(2) @ self.W_output

    weights = {"output.weight": "W_output"}
    assert found(Bare(), Reference("causal", weights=weights), d_in=24, num_heads=4) == []


def test_target_and_reference_stay_as_they_are():
    target, other = Steps(), Steps(dropout=0.5).train()
    before = [{name: one.clone() for name, one in module.state_dict().items()} for module in (target, other)]
    assert check(target, reference=other).ok
    for module, held in zip((target, other), before, strict=True):
        assert all(torch.equal(one, held[name]) for name, one in module.state_dict().items())
        assert all(one.grad is None and one.requires_grad for one in module.parameters())
    assert other.training
    assert other.query.weight.dtype is torch.float32


class Detached(Steps):
    def mix(self, weights, value):
        return super().mix(weights.detach(), value)


class HalfValue(Steps):
    def project(self, x, read):
        query, key, value = super().project(x, read)
        return query, key, value / 2 + value.detach() / 2


class PaddingRead(Steps):
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, None)


class FarAway(Steps):
    def pattern(self, t, s):
        return t - s < 30


GRADIENTS = [(Detached, "gradient-wrong", "the tokens"), (HalfValue, "gradient-wrong", "the tokens")]


@pytest.mark.parametrize(("target", "fault", "where"), GRADIENTS)
def test_a_gradient_that_differs_where_outputs_are_equal_has_a_name(target, fault, where):
    finding = found(target(), "full")[0]
    assert (finding.fault, finding.data["where"]) == (fault, f"the gradient of {where}")
    assert "the gradient of the tokens is not that of full" in finding.sentence


class BlockedBias(Steps):
    def project(self, x, read):
        query, key, _ = super().project(x, read)
        return query, key, functional.linear(read, self.value.weight, self.value.bias.detach())


def test_a_gradient_of_a_parameter_that_does_not_arrive_is_told_by_name():
    finding = found(BlockedBias(), "full")[0]
    assert (finding.fault, finding.data["where"]) == ("gradient-blocked", "value.bias")
    assert "the gradient of value.bias is not that of full, whose outputs are equal: " in finding.sentence


def test_what_is_wrong_with_padding_alone_is_found_with_padding():
    (finding,) = found(PaddingRead(), "full")
    assert (finding.check, finding.path) == ("reference_padded", "a mask of keys")


class Training(Steps):
    def pattern(self, t, s):
        return s <= t if self.training else super().pattern(t, s)


def test_what_is_wrong_in_training_alone_is_found_there():
    plain, padded = found(Training(), "full")
    assert (plain.path, plain.data["where"]) == ("training", "the output in training")
    assert (padded.check, padded.path) == ("reference_padded", "training, a mask of keys")
    assert found(Training(), Training()) == []


def test_what_is_wrong_far_away_alone_is_found():
    finding = found(FarAway(), "full")[0]
    assert finding.data["first"] == 30
    assert "10 of 40 tokens differ, the first is 30" in finding.sentence


REFERENCES = {
    name: EQUAL[name]
    for name in ("encoder", "causal", "grouped", "rotary", "alibi", "window", "cross", "cross-same-width")
}
# no output comes of it; or with long masked texts or in half precision alone; and what takes no mask
UNSEEN = {"norm-made-and-not-used", "mask-not-for-long", "mask-not-in-half-precision", "memory-unread"}
# what acts with dropout alone, over calls, in other precisions or layouts, or in rows that nobody compares
ELSEWHERE = {
    "dead-row-nan", "dead-row-junk", "low-precision", "layout", "shape-assumption", "nondeterministic", "state-changed",
    "mask-stale", "position-precision", "position-offset", "mask-fill-too-weak", "batch-crosstalk",
    "mask-wrong-axis", "mask-wrong-row", "cache-stale", "future-leak", "gradient-wrong", "dropout-in-eval",
}  # fmt: skip
PLANTED = [
    mutant
    for mutant in MUTANTS
    if mutant.name.split("/")[0] in REFERENCES
    and mutant.name.split("/")[1] not in UNSEEN
    and mutant.fault not in ELSEWHERE
]


@pytest.mark.parametrize("mutant", PLANTED, ids=lambda mutant: mutant.name)
def test_a_planted_fault_is_found_by_the_reference_alone(mutant):
    torch.manual_seed(0)
    assert found(mutant.make(), REFERENCES[mutant.name.split("/")[0]], **mutant.said) != []


def test_check_makes_both_where_a_reference_is_given_and_neither_where_none_is():
    both = {one.name for one in CHECKS if one.asks == "reference"}
    told, silent = check(Steps(), reference="full"), check(Steps())
    assert both <= set(told.passed)
    assert not both & ({*silent.passed} | {*silent.skipped})
    assert told.described.endswith(", compared with full")


def test_a_difference_that_nothing_else_explains_has_no_other_name():
    report = check(Steps(scale=0.3), scale=0.3, reference="full")
    assert (report.fault, report.faults) == ("reference-mismatch", ("reference-mismatch",))


def test_a_cause_is_named_before_the_difference_that_it_makes():
    assert check(Steps(), causal=True, reference="causal").fault == "future-leak"
