"""The four steps of a verdict, on functions that readers write."""

import numpy
import pytest
import torch
from torch import nn

from attnkit.learn.judging import judge
from attnkit.learn.tasks import TASKS

TASK = {task.name: task for task in TASKS}


def verdict_on(name, function):
    return judge(TASK[name], function)


def stub_with_a_docstring(scores):
    """Shares."""


def stub_that_returns_none(scores):
    weights = None
    return weights


def stub_with_dots(scores):
    return ...


def stub_that_raises(scores):
    raise NotImplementedError("later")


@pytest.mark.parametrize(
    "stub", [stub_with_a_docstring, stub_that_returns_none, stub_with_dots, stub_that_raises]
)
def test_a_stub_is_not_written_yet_and_points_to_a_hint(stub):
    verdict = verdict_on("softmax", stub)
    assert verdict.kind == "unwritten"
    assert "Not written yet" in verdict.text
    assert 'learn.hint("softmax")' in verdict.text


def test_a_forgotten_return_is_not_taken_for_a_stub():
    def forgotten(scores):
        scores.softmax(-1)

    verdict = verdict_on("softmax", forgotten)
    assert verdict.kind == "trouble"
    assert "is `return` missing" in verdict.text


def test_a_return_missing_on_one_way_is_noticed():
    def sometimes(scores):
        if scores.ndim == 2:
            return scores.softmax(-1)

    assert "is `return` missing" in verdict_on("softmax", sometimes).text


def test_an_error_is_told_with_its_line_and_the_shapes_that_were_given():
    def breaks(query, keys):
        return keys @ query.view(2, 2) @ torch.ones(5)

    line = breaks.__code__.co_firstlineno + 1
    text = verdict_on("scores", breaks).text
    assert f"RuntimeError in line {line}, `return keys @ query.view(2, 2) @ torch.ones(5)`: " in text
    assert "It was given query (4,), keys (6, 4)." in text


def test_an_error_on_a_later_input_says_how_many_were_right():
    def only_matrices(scores):
        _rows, _columns = scores.shape
        return scores.softmax(-1)

    assert verdict_on("softmax", only_matrices).text.startswith("Right on 3 of 4 inputs. Then: ValueError")


def test_an_error_about_dtypes_says_where_dtypes_come_from():
    def single(x):
        return (x @ x.T).softmax(-1) @ torch.ones(x.shape)

    assert "should take its dtype from them" in verdict_on("attend", single).text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda query, keys: (keys @ query).tolist(), "A list of 6 came back"),
        (lambda query, keys: [key @ query for key in keys], "torch.stack"),
        (lambda query, keys: (keys @ query).numpy(), "A NumPy array came back"),
        (lambda query, keys: (keys @ query).sum().item(), "The plain number"),
        (lambda query, keys: numpy.float64(1.0), "A NumPy number came back"),
        (lambda query, keys: (keys @ query,), "A tuple with one tensor in it"),
        (lambda query, keys: (keys @ query).to_sparse(), "A sparse tensor"),
    ],
)
def test_something_other_than_a_tensor_is_named(answer, words):
    verdict = verdict_on("scores", answer)
    assert verdict.kind == "trouble"
    assert words in verdict.text


def test_right_numbers_in_single_precision_are_told_so():
    text = verdict_on("scores", lambda query, keys: (keys @ query).float()).text
    assert text.startswith("The numbers are right, but float64 went in and float32 came out.")


def test_a_mask_of_numbers_is_refused():
    text = verdict_on(
        "causal_mask", lambda q_len, kv_len: torch.ones(q_len, kv_len).tril(kv_len - q_len)
    ).text
    assert "A mask of float32 came back" in text


def test_a_tensor_on_another_device_is_refused():
    text = verdict_on("scores", lambda query, keys: torch.empty(len(keys), device="meta")).text
    assert "on meta" in text


def test_a_wrong_shape_without_a_name_says_what_it_should_be():
    text = verdict_on("scores", lambda query, keys: (keys @ query)[None]).text
    assert text == "Shape (1, 6) came back for query (4,), keys (6, 4); it should be (6,)."


def test_wrong_parameters_are_told_with_the_right_call():
    text = verdict_on("scores", lambda query: query).text
    assert "2 arguments, scores(query, keys); yours takes (query)" in text


def test_a_result_in_place_of_the_function_is_told():
    assert "without parentheses" in verdict_on("scores", torch.zeros(6)).text


@pytest.mark.parametrize(
    "cut",
    [
        lambda query, keys: (keys @ query).detach(),
        lambda query, keys: torch.tensor([(key @ query).item() for key in keys], dtype=keys.dtype),
        torch.no_grad()(lambda query, keys: keys @ query),
    ],
)
def test_a_gradient_that_is_cut_off_is_almost_right(cut):
    verdict = verdict_on("scores", cut)
    assert verdict.kind == "almost"
    assert not verdict.solved
    assert "cut off" in verdict.text


def test_a_gradient_cut_off_in_part_is_almost_right():
    verdict = verdict_on("attend", lambda x: (x @ x.T).softmax(-1).detach() @ x)
    assert verdict.kind == "almost"
    assert "a part of the gradient is missing" in verdict.text


def test_a_gradient_cut_off_from_one_input_names_it():
    verdict = verdict_on("scores", lambda query, keys: keys.detach() @ query)
    assert "0 of the 24 numbers in `keys`" in verdict.text


def test_a_maximum_may_be_detached_because_no_gradient_goes_through_it():
    def detached(scores):
        parts = (scores - scores.amax(-1, keepdim=True).detach()).exp()
        return parts / parts.sum(-1, keepdim=True)

    assert verdict_on("softmax", detached).solved


def test_writing_into_an_input_is_almost_right_and_counted():
    def in_place(scores):
        scores -= scores.amax(-1, keepdim=True)
        return scores.softmax(-1)

    verdict = verdict_on("softmax", in_place)
    assert verdict.kind == "almost"
    assert "35 of the 35 numbers in `scores` have changed" in verdict.text


def test_writing_into_an_input_spoils_no_later_input():
    def in_place(scores):
        return scores.exp_().div_(3.0)

    verdict_on("softmax", in_place)
    assert verdict_on("softmax", lambda scores: scores.softmax(-1)).solved


def test_dividing_in_place_is_told_from_a_cut_gradient():
    def in_place(scores):
        parts = (scores - scores.amax(-1, keepdim=True)).exp()
        parts /= parts.sum(-1, keepdim=True)
        return parts

    verdict = verdict_on("softmax", in_place)
    assert verdict.kind == "almost"
    assert "overwritten" in verdict.text


def test_another_answer_the_second_time_is_noticed():
    calls = []

    def fickle(query, keys):
        calls.append(1)
        return keys @ query * (1 if len(calls) < 3 else 2)

    verdict = verdict_on("scores", fickle)
    assert verdict.kind == "almost"
    assert verdict.text.startswith("Right the first time, but 6 of 6 numbers are others")


def test_wrong_and_random_is_told_before_any_property():
    verdict = verdict_on("scores", lambda query, keys: keys @ query + torch.randn(len(keys)))
    assert verdict.text.startswith("Not right, and 6 of 6 numbers are others")


def test_a_layer_that_shares_its_numbers_with_the_input_is_almost_right():
    def sharing(weight):
        linear = nn.Linear(*weight.shape, bias=False)
        linear.weight = nn.Parameter(weight.T)
        return linear

    assert "not a copy" in verdict_on("to_linear", sharing).text


def test_a_layer_with_a_bias_of_zeros_is_almost_right():
    def zeroed(weight):
        linear = nn.Linear(*weight.shape)
        linear.weight.data.copy_(weight.T)
        linear.bias.data.zero_()
        return linear

    assert "a bias of 5 zeros" in verdict_on("to_linear", zeroed).text


def test_a_layer_the_wrong_way_round_says_which_way_it_maps():
    text = verdict_on(
        "to_linear", lambda weight: nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    ).text
    assert "maps 5 numbers to 3; it should map 3 to 5" in text


def test_a_tensor_in_place_of_a_layer_is_told():
    assert "the layer itself" in verdict_on("to_linear", lambda weight: weight.T).text


def test_one_matrix_in_place_of_two_is_told():
    assert "Two matrices are wanted" in verdict_on("previous_word", torch.eye).text


def test_a_mistake_that_stops_on_another_size_has_its_name_and_its_line():
    verdict = verdict_on("scores", lambda query, keys: query @ keys)
    assert verdict.mistake == "wrong side"
    assert "It stops at query (4,), keys (6, 4): RuntimeError in line" in verdict.text


@pytest.mark.parametrize(
    ("name", "function", "words"),
    [
        ("softmax", lambda scores: scores * torch.nan, "35 of 35 entries are nan"),
        # no row is shared out: row 0 sums to what exp makes of it
        (
            "softmax",
            lambda scores: (scores - scores.amax(-1, keepdim=True)).exp(),
            "Row 0 of your weights sums to",
        ),
        ("softmax", lambda scores: (2 * scores).softmax(-1), "0 of 35 numbers are right. The first"),
        (
            "masked_weights",
            lambda scores, mask: scores.masked_fill(~mask, -5.0).softmax(-1) * mask.any(-1, keepdim=True),
            "Query 0 gives the hidden key 1 a weight of",
        ),
        (
            "multi_head",
            lambda x, q, k, v, out, num_heads: x.flip(1) @ v @ out,
            "changes, which is later",
        ),
        (
            "attend",
            lambda x: (x @ x.T).masked_fill(torch.ones(len(x), len(x)).triu(1) > 0, -9.0).softmax(-1) @ x,
            "With words 0 and 1 exchanged",
        ),
        ("scores", lambda query, keys: keys @ query + 1, "Twice as long a query"),
        ("previous_word", lambda n: (torch.eye(n), torch.eye(n)), "reads position"),
        ("is_causal", lambda attention, x: len(x) < 0, "of the 3 honest models are called cheats"),
    ],
)
def test_a_mistake_without_a_name_gets_the_strongest_property_that_fails(name, function, words):
    verdict = verdict_on(name, function)
    assert verdict.kind in ("unnamed", "named")
    assert words in verdict.text


def test_the_first_entry_that_differs_is_given_with_both_numbers_and_a_count():
    def one_hole(q_len, kv_len):
        mask = torch.ones(q_len, kv_len, dtype=torch.bool).tril(kv_len - q_len)
        mask[-1, 0] = False
        return mask

    verdict = verdict_on("causal_mask", one_hole)
    assert verdict.kind == "unnamed"
    assert verdict.text == (
        "24 of 25 numbers are right. The first that is not, entry [4, 0]: False, not True. "
        "Input: q_len 5, kv_len 5."
    )


def test_a_test_that_some_cheats_pass_is_told_one_and_by_how_much_it_leaks():
    def one_place_and_lenient(attention, x):
        other = x.clone()
        other[4:] = 0.0
        return torch.allclose(attention(other)[:4], attention(x)[:4], atol=1e-2)

    verdict = verdict_on("is_causal", one_place_and_lenient)
    assert verdict.kind == "unnamed"
    assert verdict.text.startswith(
        '2 of the 8 cheats get past your test, like "hidden scores set to -10", although its'
    )


def settings():
    return torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()


def test_a_verdict_leaves_the_random_state_and_the_settings_of_torch_alone():
    def meddles(query, keys):
        torch.manual_seed(1)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return keys @ query

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    random, before = torch.get_rng_state(), settings()
    verdict_on("scores", meddles)
    verdict_on("to_linear", lambda weight: nn.Linear(3, 5))
    after = settings()
    torch.set_num_threads(threads)
    assert after == before
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_verdict_is_the_same_where_gradients_are_off(mode):
    with mode():
        assert verdict_on("scores", lambda query, keys: keys @ query).solved
        assert verdict_on("scores", lambda query, keys: (keys @ query).detach()).kind == "almost"


def test_what_a_function_prints_is_shown_once(capsys):
    def prints(query, keys):
        print("here")
        return keys @ query

    verdict_on("scores", prints)
    assert capsys.readouterr().out == "here\n"


def test_a_function_that_calls_itself_is_told_so():
    def again(scores):
        return again(scores)

    assert "Your function calls itself." in verdict_on("softmax", again).text


def test_a_verdict_shows_itself_in_short_lines():
    shown = repr(verdict_on("scores", lambda query, keys: keys * query))
    assert shown.startswith("✗ scores: You multiplied coordinate by coordinate")
    assert max(len(line) for line in shown.splitlines()) <= 96
