import pytest
from torch import nn

from attnkit import Attention as Layer
from attnkit.conformance.relations.scale import run_scale
from tests.conformance.weighing import Capped, Normed, case_of, faults, made, reason
from tests.mutants.base import Attention


def scaled(scale, **built):
    return made(type("Scaled", (Attention,), {"scale": lambda layer: scale}), **built)


@pytest.mark.parametrize(
    ("scale", "fault", "words"),
    [
        (1.0, "scale-missing", "its scale is 1; expected 0.4082 = 1/sqrt(6) = 1/sqrt(head_dim)"),
        (24**-0.5, "scale-by-width", "its scale is 0.2041 = 1/sqrt(24) = 1/sqrt(d_model)"),
        (1 / 6, "scale-wrong", "its scale is 0.1667 = 1/6 = 1/head_dim"),
        (6**0.5, "scale-wrong", "its scale is 2.449 = sqrt(6) = sqrt(head_dim)"),
        (4**-0.5, "scale-wrong", "its scale is 0.5 = 1/sqrt(4) = 1/sqrt(num_heads)"),
    ],
)
def test_a_usual_mistake_of_the_scale_is_named(scale, fault, words):
    (finding,) = run_scale(case_of(scaled(scale), num_heads=4))
    assert (finding.fault, finding.sentence.startswith(words)) == (fault, True)
    assert finding.measured == pytest.approx(scale, rel=1e-6)


def test_the_right_scale_is_read():
    case = case_of(made(Attention))
    assert faults(run_scale, case) == []
    assert case.facts["scale"] == pytest.approx(6**-0.5, rel=1e-6)


def test_a_scale_by_length_is_seen_at_two_lengths():
    class ByLength(Attention):
        def score(self, query, key):
            return query @ key.mT * key.shape[-2] ** -0.5

    (finding,) = run_scale(case_of(made(ByLength)))
    assert finding.fault == "scale-wrong"
    assert "1/sqrt(number of tokens)" in finding.sentence


def test_a_scale_of_ones_own_is_described_and_not_accused():
    case = case_of(scaled(0.123))
    assert faults(run_scale, case) == []
    assert case.facts["scale"] == pytest.approx(0.123, rel=1e-6)


def test_a_declared_scale_is_tested():
    assert faults(run_scale, case_of(scaled(1.0), scale=1.0)) == []
    assert faults(run_scale, case_of(scaled(0.123), scale=0.5)) == ["scale-wrong"]


def test_a_relative_bias_goes_without_a_scale_as_in_t5():
    assert faults(run_scale, case_of(scaled(1.0, positions="relative"), positions="relative")) == []


def test_the_scale_of_a_library_is_its_own_design():
    assert faults(run_scale, case_of(made(Layer, 24, 4, mechanism="unscaled"))) == []


def test_the_scale_inside_torchs_own_module_is_read():
    case = case_of(made(nn.MultiheadAttention, 24, 4, batch_first=True))
    assert faults(run_scale, case) == []
    assert case.facts["scale"] == pytest.approx(6**-0.5, rel=1e-6)


def test_a_cap_is_read_and_tested_where_it_is_declared():
    case = case_of(made(Capped))
    assert faults(run_scale, case) == []
    assert case.facts["softcap"] == pytest.approx(5, rel=1e-2)
    assert faults(run_scale, case_of(made(Capped), softcap=5.0)) == []
    assert faults(run_scale, case_of(made(Capped), softcap=50.0)) == ["softcap-wrong"]
    assert faults(run_scale, case_of(made(Attention), softcap=5.0)) == ["softcap-wrong"]


def test_a_softmax_of_a_softmax_is_no_cap():
    class Twice(Attention):
        def normalise(self, scores):
            return scores.softmax(-1).softmax(-1)

    assert faults(run_scale, case_of(made(Twice))) == ["softmax-missing"]


def test_normalised_queries_have_no_scale_to_read():
    assert reason(run_scale, case_of(made(Normed))) == "its scores are no dot product of query and key"
