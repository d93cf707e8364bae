"""What other libraries misread in silence is refused here, with what to write instead. Each fix is tried."""

import re

import pytest
import torch

from attnkit import converters, masks
from attnkit.errors import DtypeError, OptionError, ShapeError

pytestmark = pytest.mark.messages
CAUSAL = torch.ones(4, 4, dtype=torch.bool).tril()


def sdpa(mask, *, batch=2, q_len=4, kv_len=4):
    return converters.from_sdpa(mask, batch=batch, q_len=q_len, kv_len=kv_len)


def multihead(attn_mask=None, *, batch=2, q_len=4, kv_len=4, **options):
    return converters.from_multihead(
        attn_mask, batch=batch, num_heads=3, q_len=q_len, kv_len=kv_len, **options
    )


def hugging_face(mask, *, batch=2, q_len=4, kv_len=4):
    return converters.from_hugging_face(mask, batch=batch, q_len=q_len, kv_len=kv_len)


@pytest.mark.parametrize("read", [sdpa, multihead])
def test_a_mask_of_the_floats_0_and_1_is_refused(read):
    with pytest.raises(
        DtypeError, match=r"attn_mask holds the floats 0 and 1; .* hide nothing\n  fix: attn_mask > 0 "
    ):
        read(CAUSAL.float())
    assert torch.equal(sdpa(CAUSAL.float() > 0).dense(4, 4), CAUSAL)


def test_a_mask_of_whole_numbers_is_refused():
    with pytest.raises(DtypeError, match=r"got torch\.int64\n  fix: attn_mask\.bool\(\) where 1 keeps"):
        sdpa(CAUSAL.long())
    with pytest.raises(DtypeError, match=r"got torch\.uint8\n  fix: ~attn_mask\.bool\(\) where 1 keeps"):
        multihead(CAUSAL.byte())
    assert torch.equal(multihead(~CAUSAL.byte().bool()).dense(4, 4), CAUSAL)


def test_a_list_is_refused():
    with pytest.raises(DtypeError, match=r"got list\n  fix: torch\.as_tensor\(attn_mask\)\.bool\(\)"):
        sdpa([[True]])


@pytest.mark.parametrize("number", [-1e9, -10000.0, 0.5])
def test_a_bias_is_refused(number):
    added = torch.zeros(4, 4).masked_fill(~CAUSAL, number)
    with pytest.raises(
        DtypeError, match=rf"adds {re.escape(f'{number:g}')} to a score(?s:.*)scores\.Bias\(attn_mask\)"
    ) as refused:
        sdpa(added)
    assert "attn_mask > -1e3" in refused.value.fix
    assert torch.equal(sdpa(torch.zeros(4, 4).masked_fill(~CAUSAL, -1e9) > -1e3).dense(4, 4), CAUSAL)


def test_nan_is_no_mask():
    with pytest.raises(DtypeError, match="adds nan to a score"):
        sdpa(torch.full((4, 4), torch.nan))


@pytest.mark.parametrize("read", [sdpa, multihead])
def test_a_transposed_mask_is_refused_by_its_shape(read):
    with pytest.raises(
        ShapeError, match=r"\(7, 5\) does not end in .* \(5, 7\)\n  fix: it is transposed: attn_mask\.mT"
    ):
        read(torch.ones(7, 5, dtype=torch.bool), q_len=5, kv_len=7)


@pytest.mark.parametrize("padding", [4, 3])
def test_a_transposed_square_mask_is_refused_by_what_it_keeps(padding):
    turned = CAUSAL.mT & (torch.arange(4) < padding)
    with pytest.raises(
        ShapeError, match=r"read itself and all that comes after it, and nothing before"
    ) as refused:
        sdpa(turned)
    assert "attn_mask.mT if it is transposed" in refused.value.fix
    assert "masks.where(lambda q, k: k >= q)" in refused.value.fix


@pytest.mark.parametrize(("read", "given"), [(sdpa, ~CAUSAL), (multihead, CAUSAL)], ids=["sdpa", "multihead"])
def test_a_causal_mask_that_says_it_the_other_way_round_is_refused(read, given):
    with pytest.raises(
        ShapeError, match=r"read all that comes after it(?s:.*)~attn_mask if True hides in it"
    ):
        read(given)


@pytest.mark.parametrize("kept", [[[0, 0, 0, 1]] * 4, [[0, 0, 1, 1]] * 4, [[1, 0, 0, 0], [0, 1, 0, 0]] * 2])
def test_a_mask_that_only_resembles_one_turned_round_is_read(kept):
    kept = torch.tensor(kept).bool()
    assert torch.equal(sdpa(kept).dense(4, 4), kept)


def test_padding_that_happens_to_broadcast_is_refused():
    padding = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    with pytest.raises(ShapeError, match=r"the 3 rows of attn_mask may be queries or samples") as refused:
        sdpa(padding, batch=3, q_len=3, kv_len=5)
    assert (
        "attn_mask[:, None, None, :] if rows are samples, attn_mask[None] if they are queries"
        in refused.value.fix
    )
    read = {"batch": 3, "q_len": 3, "kv_len": 5}
    assert torch.equal(
        sdpa(padding[:, None, None, :], **read).dense(3, 5), masks.lengths([3, 2, 5]).dense(3, 5)
    )
    assert torch.equal(sdpa(padding[None], **read).dense(3, 5), padding)


def test_padding_given_to_multihead_attention_as_its_attn_mask_is_refused():
    padding = torch.zeros(3, 5, dtype=torch.bool)
    with pytest.raises(
        ShapeError, match=r"key_padding_mask=attn_mask if rows are samples, attn_mask\.expand\(9, -1"
    ):
        multihead(padding, batch=3, q_len=3, kv_len=5)
    assert multihead(padding.expand(9, -1, -1), batch=3, q_len=3, kv_len=5).dense(3, 5).all()


def test_padding_for_sdpa_needs_its_axes():
    with pytest.raises(
        ShapeError, match=r"has a row a sample, not a query\n  fix: attn_mask\[:, None, None, :\]"
    ):
        sdpa(torch.ones(2, 4, dtype=torch.bool))


def test_a_mask_without_queries_is_refused():
    with pytest.raises(ShapeError, match=r"got \(4,\)\n  fix: attn_mask\[None, :\] for keys"):
        sdpa(torch.ones(4, dtype=torch.bool))


def test_a_mask_for_other_lengths_is_refused():
    with pytest.raises(
        ShapeError, match=r"attn_mask \(4, 5\) does not end in .*, which is \(4, 4\)\n  fix: rows are"
    ):
        sdpa(torch.ones(4, 5, dtype=torch.bool), batch=3)


def test_a_mask_for_another_batch_is_refused():
    with pytest.raises(ShapeError, match=r"is for a batch of \(3,\); the batch is \(2,\)"):
        sdpa(torch.ones(3, 1, 4, 4, dtype=torch.bool))
    with pytest.raises(
        ShapeError, match=r"6 first; got \(4, 4, 4\)\n  fix: one a sample: attn_mask\.repeat_interleave\(3"
    ):
        multihead(torch.ones(4, 4, 4, dtype=torch.bool))


def test_heads_that_differ_are_refused():
    kept = torch.stack([CAUSAL, torch.ones_like(CAUSAL)])
    with pytest.raises(
        ShapeError, match=r"hides other keys in other heads(?s:.*)samples, attn_mask\[:, None\]"
    ):
        sdpa(kept)
    assert sdpa(kept[:, None]).batch == (2,)


def test_a_mask_for_each_of_equal_heads_is_one_mask():
    assert torch.equal(sdpa(CAUSAL.expand(2, 3, 4, 4)).dense(4, 4), CAUSAL.expand(2, 4, 4))


def test_key_padding_has_a_row_a_sample():
    with pytest.raises(ShapeError, match=r"which is \(2, 4\); got \(4, 2\)\n  fix: key_padding_mask\.mT"):
        multihead(key_padding_mask=torch.zeros(4, 2, dtype=torch.bool))


def test_no_mask_at_all_is_refused():
    with pytest.raises(
        OptionError, match=r"neither attn_mask nor key_padding_mask is given\n  fix: masks\.full"
    ):
        multihead()


def test_hugging_face_padding_of_floats_is_refused():
    with pytest.raises(DtypeError, match=r"by 0 and 1; got torch\.float32\n  fix: attention_mask\.long\(\)"):
        hugging_face(torch.ones(2, 4))


def test_hugging_face_padding_without_the_cached_keys_is_refused():
    with pytest.raises(
        ShapeError, match=r"which is \(2, 9\); got \(2, 4\)\n  fix: one row a sample, and with a cache"
    ):
        hugging_face(torch.ones(2, 4).long(), kv_len=9)


def test_numbers_of_packed_documents_are_no_padding():
    with pytest.raises(
        DtypeError, match=r"it holds \[2\]\n  fix: numbers of packed documents: masks\.documents"
    ):
        hugging_face(torch.tensor([[1, 1, 2, 2], [1, 2, 2, 2]]))


def test_hugging_face_masks_have_two_or_four_axes():
    with pytest.raises(ShapeError, match=r"got \(2, 4, 4\)\n  fix: one a sample: attention_mask\[:, None\]"):
        hugging_face(torch.ones(2, 4, 4))
    with pytest.raises(DtypeError, match="attention_mask holds the floats 0 and 1"):
        hugging_face(torch.ones(2, 1, 4, 4))


@pytest.mark.parametrize("convert", [converters.to_padding, converters.to_key_padding])
def test_a_mask_that_differs_from_query_to_query_is_no_padding(convert):
    with pytest.raises(
        OptionError, match=r"causal hides other keys from other queries(?s:.*)masks\.lengths\(\[5, 3\]\)"
    ):
        convert(masks.causal, 4)


def test_a_batch_of_two_axes_is_for_sdpa_alone():
    mask = masks.lengths([[1, 2], [3, 4]])
    assert converters.to_sdpa(mask, 3, 4).shape == (2, 2, 1, 3, 4)
    with pytest.raises(ShapeError, match=r"one batch axis; .* a batch of \(2, 2\)\n  fix: flatten the batch"):
        converters.to_multihead(mask, 3, 4, num_heads=2)
    with pytest.raises(ShapeError, match=r"one batch axis; .* a batch of \(2, 2\)\n  fix: flatten the batch"):
        converters.to_hugging_face(mask, 3, 4, dtype=torch.float32)


def test_what_is_added_to_scores_is_a_float():
    with pytest.raises(DtypeError, match=r"got torch\.int64\n  fix: dtype=query\.dtype"):
        converters.to_sdpa(masks.causal, 3, 4, dtype=torch.int64)
    with pytest.raises(DtypeError, match=r"got torch\.bool\n  fix: dtype=query\.dtype"):
        converters.to_hugging_face(masks.causal, 3, 4, dtype=torch.bool)


def test_a_mask_mod_that_tells_heads_apart_is_refused():
    mask = converters.from_flex(lambda b, h, q_idx, kv_idx: (q_idx >= kv_idx) | (h == 0))
    with pytest.raises(OptionError, match=r"this mask_mod reads h(?s:.*)masks that differ need a rule each"):
        mask.dense(3, 3)


def test_a_mask_mod_that_tells_samples_apart_needs_their_number():
    starts = torch.tensor([0, 2])

    def mask_mod(b, h, q_idx, kv_idx):
        return kv_idx >= starts[b]

    with pytest.raises(
        OptionError, match=r"reads b while no batch is given\n  fix: batch=the number of samples"
    ):
        converters.from_flex(mask_mod).dense(3, 3)
    assert converters.from_flex(mask_mod, batch=2).dense(1, 3).int().tolist() == [[[1, 1, 1]], [[0, 0, 1]]]


def test_a_block_mask_is_no_mask_mod():
    blocks = converters.block_mask(masks.causal, 3, 3)
    with pytest.raises(OptionError, match=r"got BlockMask\n  fix: block_mask\.mask_mod"):
        converters.from_flex(blocks)
    assert torch.equal(converters.from_flex(blocks.mask_mod).dense(3, 3), masks.causal.dense(3, 3))


def test_a_score_mod_is_no_mask_mod():
    with pytest.raises(DtypeError, match=r"it gave torch\.float32(?s:.*)Rule\(scores=\(step,\)\)"):
        converters.from_flex(lambda b, h, q_idx, kv_idx: (q_idx - kv_idx) * 0.5).dense(3, 3)


@pytest.mark.parametrize(
    "write",
    [
        lambda given: converters.to_sdpa(given, 4, 4),
        lambda given: converters.to_multihead(given, 4, 4, num_heads=3),
        lambda given: converters.to_key_padding(given, 4),
        lambda given: converters.to_padding(given, 4),
        lambda given: converters.to_hugging_face(given, 4, 4, dtype=torch.float32),
        lambda given: converters.to_flex(given),
        lambda given: converters.block_mask(given, 4, 4),
    ],
    ids=["sdpa", "multihead", "key_padding", "padding", "hugging_face", "flex", "block_mask"],
)
def test_what_is_no_mask_is_not_written_for_another_library(write):
    with pytest.raises(
        OptionError, match=r"mask is one of attnkit\.masks; got Tensor\n  fix: (?s:.*)from_sdpa"
    ):
        write(CAUSAL)


def test_no_mask_and_a_mask_are_not_read():
    with pytest.raises(DtypeError, match=r"attn_mask is a tensor; got NoneType\n  fix: masks\.full"):
        sdpa(None)
    with pytest.raises(DtypeError, match=r"attn_mask is a tensor; got Causal\n  fix: it is a mask already"):
        sdpa(masks.causal)


def test_a_mask_mod_of_two_arguments_is_told_of_where():
    with pytest.raises(
        OptionError, match=r"mask_mod\(b, h, q_idx, kv_idx\), and failed: (?s:.*)masks\.where"
    ):
        converters.from_flex(lambda q, k: q >= k).dense(4, 4)
