import pytest
from torch import nn

from attnkit import Attention as Layer
from attnkit.conformance.relations.projections import run_inputs, run_roles, run_unused
from tests.conformance.weighing import case_of, faults, made, reason
from tests.mutants.base import Attention, CrossAttention


def projecting(project, base=Attention):
    return made(type("Projecting", (base,), {"project": project}))


@pytest.mark.parametrize(
    ("project", "fault"),
    [
        (lambda layer, x, read: (layer.query(x), layer.key(read), layer.key(read)), "value-from-key"),
        (lambda layer, x, read: (layer.query(x), layer.value(read), layer.value(read)), "projection-unused"),
        (lambda layer, x, read: (layer.query(x), layer.key(read), read), "projection-unused"),
        (lambda layer, x, read: (layer.key(x), layer.key(read), layer.value(read)), "projection-unused"),
    ],
)
def test_a_projection_that_is_not_read_is_named(project, fault):
    assert faults(run_unused, case_of(projecting(project), num_heads=4)) == [fault]


def test_rows_that_are_not_read_are_counted():
    class Short(Attention):
        def score(self, query, key):
            return super().score(query[..., :-1], key[..., :-1])

    (finding,) = run_unused(case_of(made(Short)))
    # the last of the six numbers of each of four heads
    assert finding.sentence == "4 of 24 outputs of query are never used: 5, 11, 17, 23"


class Gathered(Attention):
    """Keys and values of five places, each a mixture of all, as Linformer has them; `size` places at most."""

    size = 40

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gather = nn.Linear(self.size, 5, bias=False)

    def project(self, x, read):
        gathered = self.gather.weight[:, : read.shape[1]] @ read
        return self.query(x), self.key(gathered), self.value(gathered)


def test_places_behind_the_last_token_are_used_by_longer_texts():
    assert faults(run_unused, case_of(made(Gathered))) == []

    class Skipping(Gathered):
        def project(self, x, read):
            read = read.clone()
            read[:, 2] = 0
            return super().project(x, read)

    (finding,) = run_unused(case_of(made(Skipping)))
    assert "of gather are never used: 2, 6, 7" in finding.sentence


def test_one_small_projection_for_all_heads_is_mixed():
    class Small(Attention):
        def build(self):
            self.small = nn.Linear(self.head_dim, self.head_dim)

        def project(self, x, read):
            query, key, _ = super().project(x, read)
            return query, key, self.small(read.unflatten(-1, (-1, self.head_dim))).flatten(-2)

    assert faults(run_unused, case_of(made(Small), num_heads=4)) == ["heads-mixed"]


def test_what_a_hard_choice_reads_is_used():
    class Chosen(Attention):
        def build(self):
            self.chooser = nn.Linear(6, 1)

        def score(self, query, key):
            scores = super().score(query, key)
            return scores + (self.chooser(key) > 0).to(scores).mT  # no gradient, and an effect

    assert faults(run_unused, case_of(made(Chosen))) == []


def test_a_projection_that_begins_with_zeros_is_used():
    layer = made(Attention)
    nn.init.zeros_(layer.output.weight)
    assert faults(run_unused, case_of(layer)) == []


def test_what_only_a_memory_reaches_is_not_missed_without_one():
    class Optional(Attention):
        def build(self):
            self.of_memory = nn.Linear(24, 24)

        def forward(self, x, memory=None, keep=None):
            read = x if memory is None else self.of_memory(memory)
            return self.attend(x, read, keep, {})

    assert faults(run_unused, case_of(made(Optional))) == []


def test_the_designs_of_a_library_are_left_out():
    layer = made(Layer, 24, 4, mechanism="indexed", top_k=3, index_heads=2, index_dim=4)
    assert "library" in str(reason(run_unused, case_of(layer, causal=True)))


@pytest.mark.parametrize(
    ("project", "fault"),
    [
        (lambda layer, x, read: (layer.query(read), layer.key(read), layer.value(read)), "query-key-swapped"),
        (lambda layer, x, read: (layer.query(x), layer.key(x), layer.value(read)), "value-from-key"),
        (lambda layer, x, read: (layer.query(x), layer.key(read), layer.value(x)), "value-from-key"),
    ],
)
def test_a_projection_of_the_wrong_tokens_is_found_where_lengths_are_equal(project, fault):
    def where_equal(layer, x, read):
        return project(layer, x, read) if x.shape == read.shape else Attention.project(layer, x, read)

    case = case_of(projecting(where_equal, CrossAttention), cross=True)
    assert faults(run_inputs, case) == [fault]


def test_right_tokens_are_right():
    assert faults(run_inputs, case_of(made(CrossAttention, memory_dim=18), cross=True, memory_dim=18)) == []


def test_keys_that_ask_are_swapped():
    class Swapped(Attention):
        def score(self, query, key):
            return super().score(key, query)

    assert faults(run_roles, case_of(made(Swapped))) == ["query-key-swapped"]
    assert faults(run_roles, case_of(made(Attention))) == []
