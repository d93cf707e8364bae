"""What masks refuse, and what they say to write instead."""

import numpy
import pytest
import torch

from attnkit import masks
from attnkit.errors import DtypeError, OptionError, ShapeError

pytestmark = pytest.mark.messages


def test_a_python_and_between_masks_is_refused():
    with pytest.raises(
        OptionError, match=r"neither true nor false(?s:.*)& \| ~ where you wrote and, or, not"
    ):
        masks.causal and masks.full  # noqa: B018


def test_a_tensor_next_to_a_mask_is_refused():
    with pytest.raises(OptionError, match=r"got Tensor(?s:.*)masks\.where\(lambda q, k: tensor"):
        masks.causal & torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize("wrap", [lambda t, m: t & m, lambda t, m: t | m], ids=["and", "or"])
def test_a_tensor_before_a_mask_is_refused(wrap):
    with pytest.raises(OptionError, match=r"Mask [&|]: masks combine with masks; got Tensor"):
        wrap(torch.ones(2, 3, dtype=torch.bool), masks.causal)


@pytest.mark.parametrize("other", [[3], [1, 2, 3]])
def test_masks_for_two_batches_do_not_combine(other):
    mask = masks.lengths([1, 2]) | masks.lengths(other)
    with pytest.raises(ShapeError, match=r"lengths\(\[1, 2\]\) is for a batch of \(2,\), lengths"):
        mask.dense(2, 3)


@pytest.mark.parametrize("padding", [torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)])
def test_a_padding_mask_given_as_lengths_is_refused(padding):
    with pytest.raises(
        DtypeError, match=r"numbers of tokens, one a sample; got torch\.\w+ \(2, 3\)(?s:.*)padding\.sum\(-1\)"
    ):
        masks.lengths(padding)


@pytest.mark.parametrize("given", [None, "ab", [[1], [1, 2]], [1.5], [1j]])
def test_what_holds_no_whole_numbers_is_no_lengths(given):
    with pytest.raises(DtypeError, match=r"kv_lengths are whole numbers of tokens, one a sample; got"):
        masks.lengths(given)


def test_a_negative_length_is_refused():
    with pytest.raises(OptionError, match=r"at least 0 tokens; got -2"):
        masks.lengths([3, -2])


def test_a_rule_that_answers_with_numbers_is_refused():
    def distance(q, k):
        return q - k

    with pytest.raises(
        DtypeError, match=r"distance must answer with a bool tensor(?s:.*)int64(?s:.*)comparison"
    ):
        masks.where(distance).dense(2, 3)


@pytest.mark.parametrize(
    "rule", [lambda q, k: q > k and k > 0, lambda q, k: q > 0 if k > 0 else q < 0], ids=["and", "if"]
)
def test_a_rule_that_fails_is_told_how_it_is_asked(rule):
    with pytest.raises(
        OptionError, match=r"q_pos \(2, 1\) and kv_pos \(1, 3\), and failed(?s:.*)not and, or, not, if"
    ):
        masks.where(rule).dense(2, 3)


def test_a_table_that_is_too_small_is_told_which_rows_it_needs():
    table = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(
        OptionError, match=r"out of bounds(?s:.*)queries from kv_len - q_len on(?s:.*)q_start=0"
    ):
        masks.where(lambda q, k: table[q, k]).dense(2, 3)


@pytest.mark.parametrize("shape", [(4, 3), (3,), (2,), (2, 2), (3, 2, 1, 4)], ids=str)
def test_a_rule_that_answers_with_another_shape_is_refused(shape):
    with pytest.raises(ShapeError, match=r"gave \([\d, ]+\) for positions of common shape \(2, 3\)"):
        masks.where(lambda q, k: torch.ones(shape, dtype=torch.bool)).dense(2, 3)


def test_a_rule_that_cannot_be_called_is_refused():
    with pytest.raises(
        OptionError, match=r"got Tensor(?s:.*)masks\.where\(lambda q, k: tensor\[\.\.\., q, k\]\)"
    ):
        masks.where(torch.ones(2, 3).bool())


NO_COUNT = [0, -2, 1.5, 2.0, True, None, "3", torch.tensor(3)]


@pytest.mark.parametrize("given", NO_COUNT, ids=repr)
@pytest.mark.parametrize(
    ("mask", "name"),
    [
        (masks.window, "window: size"),
        (masks.first, "first: size"),
        (masks.strided, "strided: stride"),
        (masks.blocks, "blocks: size"),
        (lambda n: masks.dilated(n, 2), "dilated: step"),
        (lambda n: masks.dilated(2, n), "dilated: count"),
        (lambda n: masks.random_blocks(n, 2), "random_blocks: size"),
        (lambda n: masks.random_blocks(2, n), "random_blocks: count"),
    ],
)
def test_what_counts_positions_is_a_whole_number_from_one(mask, name, given):
    with pytest.raises(
        OptionError, match=rf"masks\.{name} is a whole number from 1 upwards; got(?s:.*)fix: "
    ):
        mask(given)


@pytest.mark.parametrize("given", [-1, 0.5, True, None], ids=repr)
def test_a_seed_is_a_whole_number(given):
    with pytest.raises(OptionError, match=r"seed is a whole number from 0 upwards; got(?s:.*)seed=0"):
        masks.random_blocks(2, 2, seed=given)


def test_no_blocks_can_be_drawn_from_no_length():
    with pytest.raises(OptionError, match=r"random_blocks: length is a whole number from 1 upwards; got 0"):
        masks.random_blocks(2, 2, length=0)


@pytest.mark.parametrize("given", [0, -1, 2.5, True], ids=repr)
def test_a_prefix_counts_positions(given):
    with pytest.raises(OptionError, match=r"masks\.prefix: size is a whole number from 1 upwards; got"):
        masks.prefix(given)


@pytest.mark.parametrize("given", ["ab", None, [1.5], torch.ones(2, 3, dtype=torch.bool)], ids=str)
def test_prefixes_of_samples_are_whole_numbers(given):
    with pytest.raises(
        DtypeError, match=r"one whole number of tokens, or one a sample; got(?s:.*)prefix\(\[4, 7\]\)"
    ):
        masks.prefix(given)


@pytest.mark.parametrize("given", [torch.ones(2, 3), [0.0, 1.0], None, "ab", 3, torch.tensor(3)], ids=str)
def test_ids_of_documents_are_whole_numbers_one_a_position(given):
    with pytest.raises(
        DtypeError, match=r"the document of each position; got(?s:.*)repeat_interleave\(lengths\)"
    ):
        masks.documents(given)


def test_padding_given_as_documents_is_told_of_lengths():
    with pytest.raises(
        DtypeError, match=r"got torch\.bool \(2, 3\)(?s:.*)masks\.lengths\(padding\.sum\(-1\)\)"
    ):
        masks.documents(torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("tile", [0, -1, 1.5, True, (2, 0), (1, 2, 3), None], ids=repr)
def test_a_tile_that_is_no_size_is_refused(tile):
    with pytest.raises(OptionError, match=r"tile counts positions(?s:.*)got(?s:.*)tile=\(128, 64\)"):
        masks.causal.tiles(4, 4, tile=tile)


@pytest.mark.parametrize("ask", [masks.causal.tiles, masks.causal.show])
@pytest.mark.parametrize("given", [-1, 2.0, True, torch.tensor(3)], ids=repr)
def test_lengths_that_are_no_numbers_are_refused(ask, given):
    with pytest.raises(
        OptionError, match=r"q_len is a whole number from 0 upwards; got(?s:.*)fix: q_len=1024"
    ):
        ask(given, 4)
    with pytest.raises(OptionError, match=r"kv_len is a whole number from 0 upwards; got"):
        ask(4, given)


@pytest.mark.parametrize("ask", [masks.causal.tiles, masks.causal.show])
def test_a_start_that_is_no_position_is_refused(ask):
    with pytest.raises(OptionError, match=r"the position of the first query(?s:.*)got 0\.5(?s:.*)q_start=0"):
        ask(4, 4, q_start=0.5)


def test_a_table_of_too_many_tiles_is_refused():
    tiles = (masks.causal & masks.window(1)).tiles(20_000, 20_000, tile=1)
    with pytest.raises(OptionError, match=r"400,000,000 tiles are more than the 100,000,000(?s:.*)tile=1024"):
        tiles.table()


@pytest.mark.parametrize("sample", [2, (0, 0), -1, "a"], ids=repr)
def test_a_sample_that_is_not_there_cannot_be_shown(sample):
    with pytest.raises(OptionError, match=r"one of the batch \(2,\), counted from 0; got(?s:.*)sample=0"):
        masks.lengths([3, 4]).show(4, 4, sample=sample)


def test_a_mask_that_is_the_same_for_every_sample_has_none_to_choose():
    with pytest.raises(OptionError, match=r"batch \(\)(?s:.*)leave it out: samples don't differ"):
        masks.causal.show(4, 4, sample=0)


def test_tiles_of_masks_for_two_batches_are_refused():
    with pytest.raises(ShapeError, match=r"lengths\(\[1\]\) is for a batch of \(1,\), lengths"):
        (masks.lengths([1]) & masks.lengths([1, 2])).tiles(4, 4)


def test_a_window_of_zero_is_told_what_a_window_counts():
    with pytest.raises(
        OptionError, match=r"masks\.window: size(?s:.*)window\(1\) reads only the query itself"
    ):
        masks.window(0)


@pytest.mark.parametrize("given", [masks.window, lambda q, k: q >= k, type(masks.causal)])
def test_a_function_next_to_a_mask_is_told_of_where(given):
    with pytest.raises(OptionError, match=r"got \w+\n  fix: a function (?s:.*)masks\.where\(function\)"):
        masks.causal & given


def test_a_word_next_to_a_mask_is_told_which_masks_there_are():
    with pytest.raises(OptionError, match=r"got str\n  fix: masks\.causal, "):
        masks.full & "causal"


def test_a_mask_mod_given_to_where_is_told_of_from_flex():
    with pytest.raises(OptionError, match=r"failed: (?s:.*)two arguments(?s:.*)converters\.from_flex"):
        masks.where(lambda b, h, q, k: q >= k).dense(2, 3)


@pytest.mark.parametrize("size", [numpy.int64(4), torch.tensor(4)], ids=["numpy", "torch"])
def test_a_number_that_is_none_of_pythons_is_told_to_become_one(size):
    with pytest.raises(OptionError, match=r"got (?s:.*)fix: int\(size\)"):
        masks.window(size)


@pytest.mark.parametrize(
    ("lengths", "named"), [((-1, 3), "q_len"), ((2, 3.0), "kv_len"), ((torch.tensor(2), 3), "q_len")]
)
def test_a_length_that_is_none_is_refused_where_a_mask_is_written_out(lengths, named):
    with pytest.raises(OptionError, match=rf"Mask\.dense: {named} is a whole number from 0 upwards; got"):
        masks.causal.dense(*lengths)
