from attnkit.conformance.relations.constants import run_constant
from tests.conformance.weighing import Single, case_of, faults, made, reason
from tests.mutants.base import Attention, CrossAttention


class Unnamed(Single):
    """One head without submodules, so that nothing but outputs tells."""

    def forward(self, x):
        query, key, value = x @ self.W_query, x @ self.W_key, x @ self.W_value
        return self.weigh(query @ key.mT) @ value


def weighing(weigh):
    return made(type("Weighing", (Unnamed,), {"weigh": weigh}))


def test_a_softmax_over_all_pairs_shows_without_a_probe():
    def weigh(layer, scores):
        return scores.flatten(-2).softmax(-1).view_as(scores)

    assert faults(run_constant, case_of(weighing(weigh), d_in=24)) == ["softmax-wrong-axis"]


def test_scores_for_weights_show_without_a_probe():
    (finding,) = run_constant(case_of(weighing(lambda layer, scores: scores), d_in=24))
    assert finding.fault == "softmax-missing"
    assert finding.sentence.endswith("where weights need not sum to one, say normalised=False")


def test_a_softmax_over_keys_gives_what_one_token_gives():
    assert faults(run_constant, case_of(weighing(lambda layer, scores: scores.softmax(-1)), d_in=24)) == []


def test_values_of_the_queries_tokens_show_where_lengths_are_equal():
    class OfTokens(CrossAttention):
        def project(self, x, read):
            query, key, value = super().project(x, read)
            return query, key, self.value(x) if x.shape == read.shape else value

    assert faults(run_constant, case_of(made(OfTokens), cross=True)) == ["value-from-key"]
    assert faults(run_constant, case_of(made(CrossAttention), cross=True)) == []


def test_calls_that_differ_come_first():
    class Counting(Unnamed):
        calls = 0

        def weigh(self, scores):
            self.calls += 1
            return scores.softmax(-1) + 0.1 * self.calls

    assert "two equal calls differ" in str(reason(run_constant, case_of(made(Counting), d_in=24)))


def test_tokens_that_carry_their_place_are_not_equal():
    case = case_of(made(Attention, positions="absolute"), positions="absolute")
    assert reason(run_constant, case) == "tokens differ by their place"
