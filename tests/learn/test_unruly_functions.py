"""Functions that do more than compute: what they print, change, raise or are leads to a true verdict all the same."""

import functools
import sys
import warnings

import pytest
import torch
from torch import nn

from attnkit.learn.judging import judge
from attnkit.learn.tasks import TASKS

TASK = {task.name: task for task in TASKS}


def verdict_on(name, function):
    return judge(TASK[name], function)


def layer_with_its_own_parameter(weight):
    layer = nn.Linear(1, 1, bias=False)
    layer.weight = nn.Parameter(weight.T.clone())
    return layer


def test_a_parameter_is_cut_off_from_the_inputs():
    text = verdict_on("scores", lambda query, keys: nn.Parameter(keys @ query)).text
    assert "nn.Parameter(...) stop it" in text


class Callable:
    def __call__(self, query, keys):
        return keys @ query


class Layer(nn.Module):
    def forward(self, query, keys):
        return keys @ query


class Broken(nn.Module):
    def forward(self, query, keys):
        return keys @ keys @ query


@pytest.mark.parametrize(
    "callable_",
    [
        Callable(),
        Layer(),
        functools.partial(lambda factor, query, keys: factor * keys @ query, 1.0),
        lambda query, keys, scale=1.0: scale * (keys @ query),
        lambda *both: both[1] @ both[0],
    ],
)
def test_whatever_can_be_called_is_judged(callable_):
    assert verdict_on("scores", callable_).solved


def test_an_error_inside_a_module_is_told_with_its_line():
    text = verdict_on("scores", Broken()).text
    line = Broken.forward.__code__.co_firstlineno + 1
    assert f"RuntimeError in line {line}, `return keys @ keys @ query`" in text


def test_an_error_of_torch_alone_has_no_line():
    assert verdict_on("scores", torch.dot).text.startswith("RuntimeError: 1D tensors expected")


def test_a_long_line_is_shortened():
    # fmt: off
    def long(query, keys): return keys @ query @ query + 1000000000 + 2000000000 + 3000000000 + 4000000000
    # fmt: on
    assert " ...`: " in verdict_on("scores", long).text


def test_a_class_in_place_of_a_function_is_told():
    text = verdict_on("scores", Layer).text
    assert text.startswith("A function is wanted, and this is the class Layer: make an instance")


def test_an_error_in_code_of_another_cell_is_told_with_its_own_line():
    cell = {"torch": torch}
    exec(compile("def helper(x):\n    return x.no_such_thing\n", "<another cell>", "exec"), cell)
    assert "AttributeError in line 2: " in verdict_on("scores", lambda query, keys: cell["helper"](keys)).text


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
def test_stopping_a_function_stops_the_judge_and_leaves_everything_as_it_was(raised):
    def stopped(query, keys):
        torch.set_default_dtype(torch.float16)
        raise raised

    threads, random = torch.get_num_threads(), torch.get_rng_state()
    with pytest.raises(raised):
        verdict_on("scores", stopped)
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, torch.float32)
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    "meddle",
    [
        lambda: torch.set_default_dtype(torch.float16),
        lambda: torch.set_default_device("meta"),
        lambda: torch.manual_seed(7),
        lambda: print("loud", file=sys.stderr),
    ],
)
@pytest.mark.parametrize("name", ["scores", "to_linear", "multi_head"])
def test_meddling_with_torch_changes_no_verdict(name, meddle):
    def meddles(*inputs):
        meddle()
        return TASK[name].right(*inputs) if name != "to_linear" else layer_with_its_own_parameter(*inputs)

    device = torch.get_default_device()
    function = {
        "scores": lambda query, keys: meddles(query, keys),
        "to_linear": lambda weight: meddles(weight),
        "multi_head": lambda x, q, k, v, out, num_heads: meddles(x, q, k, v, out, num_heads),
    }[name]
    verdict_on(name, function)
    assert torch.get_default_device() == device
    assert verdict_on(name, TASK[name].right).solved


def test_turning_gradients_off_inside_is_noticed():
    def off(query, keys):
        torch.set_grad_enabled(False)
        return keys @ query

    assert "cut off" in verdict_on("scores", off).text
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("size", [10**14, 10**9])
def test_a_huge_tensor_is_told_by_its_shape_or_its_error(size):
    # 10**9 numbers that share one place take no memory; 10**14 of their own cannot be had
    def huge(query, keys):
        return torch.zeros(1, dtype=keys.dtype).expand(size) if size < 10**10 else torch.empty(size)

    text = verdict_on("scores", huge).text
    assert text.startswith(("Shape (1000000000,) came back", "RuntimeError in line"))


def test_an_input_that_is_written_into_later_is_noticed():
    def sometimes(scores):
        return scores.sub_(1.0).softmax(-1) if scores.ndim == 3 else scores.softmax(-1)

    assert "30 of the 30 numbers in `scores` have changed" in verdict_on("softmax", sometimes).text


def test_an_input_that_is_turned_round_in_place_is_noticed():
    assert (
        "`keys` has another shape after the call"
        in verdict_on("scores", lambda query, keys: query @ keys.t_()).text
    )


def test_what_is_written_and_undone_before_it_is_used_is_no_fault():
    assert verdict_on("scores", lambda query, keys: keys @ query.add_(1.0).sub_(1.0)).solved


def test_an_error_that_comes_only_with_a_gradient_is_told():
    text = verdict_on("scores", lambda query, keys: torch.from_numpy(keys.numpy() @ query.numpy())).text
    assert text.startswith("Right, but not when a gradient is wanted: RuntimeError in line")


def test_a_gradient_that_is_cut_off_on_a_later_input_is_noticed():
    def sometimes(scores):
        return (scores.detach() if scores.ndim == 3 else scores).softmax(-1)

    assert "0 of the 30 numbers in `scores` get a gradient" in verdict_on("softmax", sometimes).text


def test_chance_gives_the_same_verdict_every_time():
    def chance(query, keys):
        return keys @ query + torch.randint(0, 2, (len(keys),))

    texts = set()
    for seed in range(5):
        torch.manual_seed(seed)
        texts.add(verdict_on("scores", chance).text)
    assert len(texts) == 1


def test_a_warning_inside_a_function_changes_nothing():
    def warns(query, keys):
        warnings.warn("careful", stacklevel=1)
        return keys @ query

    assert verdict_on("scores", warns).solved


def test_what_goes_to_the_error_stream_is_shown_once(capsys):
    def loud(query, keys):
        print("loud", file=sys.stderr)
        return keys @ query

    verdict_on("scores", loud)
    assert capsys.readouterr().err == "loud\n"


def test_rounding_of_single_precision_on_the_way_is_right():
    assert verdict_on("scores", lambda query, keys: (keys.float() @ query.float()).double()).solved


def test_a_tensor_of_a_kind_of_its_own_is_a_tensor():
    def own_kind(query, keys):
        class Scores(torch.Tensor):
            pass

        return (keys @ query).as_subclass(Scores)

    assert verdict_on("scores", own_kind).solved
