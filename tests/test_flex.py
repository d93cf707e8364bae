"""Compiled FlexAttention against the meaning, its traps one by one, and its refusals in words.

Compiling takes seconds, so each case is made to share the kernel of another where it can.
"""

import math
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch._dynamo.exc import FailOnRecompileLimitHit, Unsupported
from torch._dynamo.utils import counters
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import scaled_dot_product_attention

from attnkit import Rule, masks, normalizers, scores
from attnkit.backends import flex
from attnkit.backends.flex import kernels, lifting, pieces
from attnkit.errors import BackendError, ShapeError
from tests.helpers import inputs

IDS = torch.tensor([0] * 90 + [1] * 60 + [2] * 150)
# under the type-checking hook PyTorch can neither count a function's arguments nor trace it
pytestmark = pytest.mark.compiled
# torch itself warns while it loads its compiler; nothing else may warn, above all not of running unfused
slowly = [
    pytest.mark.exhaustive,
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
]
BUDGET = {torch.float32: 25.0, torch.bfloat16: 2.4, torch.float16: 2.3}  # docs/decisions/error-budget.md


def request(rule, *tensors, **options):
    return rule._request(*tensors, options.get("q_start"), options.get("training", False))


def assert_agrees(rule, *tensors, **options):
    """The context, every entry, within the error budget of the eager rule in the same precision."""
    exact, plain = (
        rule(*(tensor.to(dtype) for tensor in tensors), backend="eager", **options).double()
        for dtype in (torch.float64, tensors[0].dtype)
    )
    asked = request(rule, *tensors, **options)
    assert flex.refusal(asked) is None
    found = flex.run(asked)
    assert found.dtype == tensors[0].dtype
    assert found.shape == exact.shape
    naive = max((plain - exact).abs().max().item(), torch.finfo(found.dtype).eps * exact.abs().max().item())
    assert (found.double() - exact).abs().max().item() <= BUDGET[found.dtype] * naive


def kernels_made():
    return counters["stats"]["unique_graphs"]


@pytest.fixture
def fresh():
    """As in a process that has compiled nothing yet."""
    torch._dynamo.reset()
    kernels._KERNELS.clear()
    counters.clear()
    with torch.no_grad():
        yield


class TestCompiled:
    pytestmark = slowly

    def test_one_kernel_serves_every_length_batch_and_window(self, fresh):
        for length, batch, window in [
            (300, 2, 60),
            (301, 3, 99),
            (777, 1 + 1, 500),
            (130, 5, 1),
            (512, 4, 128),
        ]:
            tensors = inputs(q_len=length, kv_len=length, batch=(batch,), heads=4, kv_heads=2)
            assert_agrees(Rule(mask=masks.causal & masks.window(window)), *tensors)
        assert kernels_made() == 1
        for cached in (300, 301, 450):  # a decoded token
            query, key, value = inputs(q_len=1, kv_len=cached, heads=4, kv_heads=2)
            assert_agrees(Rule(mask=masks.causal & masks.window(60)), query, key, value)
        assert kernels_made() == 2

    def test_one_kernel_serves_every_float_that_a_step_captures(self, fresh):
        def sloped(slope):
            return lambda score, head, q_pos, kv_pos: score - slope * (q_pos - kv_pos).abs() * (head + 1)

        tensors = inputs(q_len=140, kv_len=140)
        for slope, scale in [(0.5, None), (0.25, 0.3), (1.5, 2.0)]:
            assert_agrees(Rule(mask=masks.causal, scores=(sloped(slope),), scale=scale), *tensors)
        assert kernels_made() == 1

    @torch._dynamo.config.patch(recompile_limit=1)
    def test_many_kinds_of_steps_in_half_precision_and_none_unfused(self, fresh):
        # more kinds than PyTorch keeps kernels of one function: with a limit of 1 the second would run unfused
        table = torch.nn.Parameter(torch.randn(8, 3))  # a parameter, while gradients are off
        kinds = [
            (scores.Alibi(3), scores.SoftCap(20.0)),
            (
                scores.RelativeBias(table, bidirectional=False, max_distance=50),
                scores.Bias(torch.randn(3, 150, 150)),
            ),
        ]
        for dtype, steps in zip((torch.bfloat16, torch.float16), kinds, strict=True):
            assert_agrees(Rule(mask=masks.causal, scores=steps), *inputs(q_len=150, kv_len=150, dtype=dtype))
        again = inputs(q_len=290, kv_len=290, dtype=torch.bfloat16)
        rule = Rule(mask=masks.causal, scores=(scores.Alibi(3), scores.SoftCap(7.0)))
        assert_agrees(rule, *again)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = flex.run(request(rule, *(tensor.float() for tensor in again)))
        assert torch.equal(found, flex.run(request(rule, *again)))
        assert kernels_made() == 2

    def test_samples_differ_on_any_number_of_batch_axes(self, fresh):
        lengths, ids = torch.tensor([[300, 5, 0], [1, 150, 299]]), torch.stack([IDS, IDS.flip(0)])[:, None]
        mask = masks.lengths(lengths) & masks.documents(ids.expand(2, 3, 300)) & masks.causal
        assert_agrees(Rule(mask=mask), *inputs(q_len=300, kv_len=300, batch=(2, 3)))
        assert_agrees(Rule(mask=mask), *inputs(q_len=280, kv_len=280, batch=(2, 3)), q_start=20)
        assert kernels_made() == 1


def test_a_recompile_limit_starts_a_function_anew(fresh, monkeypatch):
    # where PyTorch would run unfused it raises, as it is told to by fullgraph=True
    made = []

    def compiles(function, *, fullgraph):
        made.append(function)

        def attend(query, key, value, *rest):
            if len(made) == 1:
                raise FailOnRecompileLimitHit("recompile_limit reached with fullgraph=True")
            return value[..., :5, :]

        assert fullgraph
        return attend

    monkeypatch.setattr(torch, "compile", compiles)
    query, key, value = inputs()
    assert torch.equal(flex.run(request(Rule(), query, key, value)), value[..., :5, :])
    assert made[0].__code__ is not made[1].__code__


@pytest.mark.messages
def test_what_pytorch_cannot_compile_is_refused_in_words(fresh, monkeypatch):
    def compiles(function, *, fullgraph):
        def attend(*arguments):
            raise Unsupported("no such lowering\nand much more", "kind")

        return attend

    monkeypatch.setattr(torch, "compile", compiles)
    with pytest.raises(
        BackendError, match=r"PyTorch fails to compile it, no such lowering\n  fix: leave backend out"
    ):
        flex.run(request(Rule(), *inputs()))


@dataclass(frozen=True)
class Steep:
    """A reader's step, with numbers in a field."""

    slope: float
    power: int

    def __call__(self, score, head, q_pos, kv_pos):
        return score - self.slope * (q_pos - kv_pos).abs() ** self.power


def test_numbers_become_tensors_however_deep():
    cap = 3.0
    value = {
        "mask": masks.causal & masks.window(7),
        "step": (Steep(0.5, 2), lambda s, h, q, k: s.clamp(max=cap)),
    }
    found = lifting.lifted(value, torch.device("cpu"))
    size, cell = found["mask"].right.size, found["step"][1].__closure__[0].cell_contents
    assert (size.dtype, size.item()) == (torch.int64, 7)
    assert (cell.dtype, cell.item()) == (torch.float32, 3.0)
    assert isinstance(found["step"][0].power, torch.Tensor)
    assert value["mask"].right.size == 7
    assert value["step"][1].__closure__[0].cell_contents == 3.0


@pytest.mark.parametrize("numbers", [True, False])
def test_two_values_of_one_structure_are_told_apart_by_their_numbers_alone(numbers):
    def key(window, slope, cap):
        value = masks.window(window), Steep(slope, 2), lambda s, h, q, k: s.clamp(max=cap)
        return lifting.structure(value[:2], numbers=numbers), lifting.structure(
            stepping(cap), numbers=numbers
        )

    def stepping(cap):
        return lambda s, h, q, k: s.clamp(max=cap)

    assert (key(3, 0.5, 1.0) == key(4, 0.25, 2.0)) is not numbers
    assert key(3, 0.5, 1.0) == key(3, 0.5, 1.0)
    assert key(3, 0.5, 1.0) != key(3, 1, 1.0)  # a float is another kind of number


def asked(rule, q_len=5, kv_len=7, **options):
    return request(rule, *inputs(q_len=q_len, kv_len=kv_len), **options)


def test_a_step_that_needs_its_number_as_one_keeps_it():
    def growing(rate):
        return lambda score, head, q_pos, kv_pos: score * math.exp(rate)

    first, second = (pieces.pieces_of(asked(Rule(scores=(growing(rate),)))) for rate in (0.5, 0.7))
    assert first.steps[0].held.__closure__[0].cell_contents == 0.5
    assert first.key != second.key
    lifted = [pieces.pieces_of(asked(Rule(scores=(scores.SoftCap(cap),)))) for cap in (5.0, 7.0)]
    assert lifted[0].key == lifted[1].key


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(
    "step",
    [
        scores.Alibi(3),
        scores.Bias(torch.randn(3, 7, 7)),
        scores.Bias(torch.randn(2, 1, 7, 7)),
        scores.SoftCap(2.0),
    ],
    ids=["relative", "written out", "of each sample", "called"],
)
@pytest.mark.parametrize(
    "mask", [masks.causal & masks.lengths([4, 7]), masks.causal & masks.first(2)], ids=repr
)
def test_what_a_kernel_captures_means_the_rule(step, mask):
    rule = Rule(mask=mask, scores=(step,))
    tensors = inputs(dtype=torch.float64)
    found = uncompiled(request(rule, *tensors))
    torch.testing.assert_close(found, rule(*tensors, backend="eager"), atol=1e-6, rtol=1e-5)


def uncompiled(asked):
    """What the function computes that is compiled elsewhere; PyTorch runs it written out."""
    return kernels.attend(*flex._prepared(asked)[1])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(
    "normalizer", [normalizers.Softmax(sink=torch.tensor([0.5, 2.0, 9.0])), normalizers.SoftmaxOne()]
)
def test_a_sink_shrinks_rows_by_the_log_sum_exp(normalizer):
    # a GPU's kernel gives the log-sum-exp, as does FlexAttention written out; sample 1 has nothing to read
    rule = Rule(mask=masks.lengths([5, 0]), normalizer=normalizer)
    tensors = inputs(dtype=torch.float64)
    asked = request(rule, *tensors)
    context, aux = uncompiled(asked)
    found = flex.beside_sink(context, aux.lse, normalizers.softmax_sink(normalizer)[1])
    torch.testing.assert_close(found, rule(*tensors, backend="eager"), atol=1e-6, rtol=1e-5)


def test_a_sink_beside_an_empty_row_passes_no_nan():
    context = torch.zeros(1, 1, 2, requires_grad=True)
    lse, sink = torch.tensor([[-torch.inf]], requires_grad=True), torch.zeros(1, requires_grad=True)
    flex.beside_sink(context, lse, sink).sum().backward()
    assert [leaf.grad.flatten().tolist() for leaf in (context, lse, sink)] == [[0.0, 0.0], [0.0], [0.0]]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_gradient_reaches_a_table():
    # as on a GPU; on a CPU FlexAttention written out has the gradient of what is captured, in float32
    bias = torch.randn(8, 3, requires_grad=True)
    tensors, probe = inputs(), torch.randn(2, 3, 5, 8)
    rule = Rule(mask=masks.causal, scores=(scores.RelativeBias(bias, bidirectional=False, max_distance=6),))
    expected = torch.autograd.grad((rule(*tensors, backend="eager") * probe).sum(), bias)[0]
    found = torch.autograd.grad((uncompiled(request(rule, *tensors)) * probe).sum(), bias)[0]
    torch.testing.assert_close(found, expected)


def test_importing_it_does_not_import_the_compiler():
    code = "import sys, attnkit.backends.flex; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch._dynamo", "torch._inductor", "sympy"} & set(done.stdout.split()) == set()


def test_the_automatic_choice_leaves_a_cpu_alone():
    assert flex.seconds(asked(Rule())) == math.inf


REFUSED = {
    "a gradient": (Rule(), {"grad": True}, "FlexAttention has no backward pass on a CPU"),
    "a learned bias": (
        Rule(scores=(scores.Bias(torch.nn.Parameter(torch.zeros(7, 7))),)),
        {},
        "no backward pass on a CPU, and a gradient is asked for; torch.no_grad() asks for none",
    ),
    "float64": (Rule(), {"dtype": torch.float64}, "in float32, bfloat16 and float16, not in float64"),
    "no query": (Rule(), {"q_len": 0}, "there is nothing to compute: an axis has length 0"),
    "no head": (Rule(), {"heads": 0}, "there is nothing to compute"),
    "sigmoid": (Rule(normalizer=normalizers.Sigmoid()), {}, "always normalises by softmax, not by Sigmoid("),
    "a sink": (Rule(normalizer=normalizers.SoftmaxOne()), {}, "a sink needs the log-sum-exp"),
    "a step over the row": (
        Rule(scores=(lambda score, head, q_pos, kv_pos: score - score.mean(-1, keepdim=True),)),
        {},
        "the score step <lambda> looks at more than one score at a time",
    ),
    "a step that decides in Python": (
        Rule(scores=(lambda score, head, q_pos, kv_pos: score if q_pos.max() > 3 else -score,)),
        {},
        "the score step <lambda> cannot be asked for one pair of positions:",
    ),
    "a mask that decides in Python": (
        Rule(mask=masks.where(lambda q, k: q >= k if q.max() > 3 else q < k)),
        {},
        "the mask where(<lambda>) cannot be asked for one pair of positions:",
    ),
}


@pytest.mark.messages
@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_run_is_refused_in_words(case):
    rule, options, told = REFUSED[case]
    assert told in flex.refusal(request(rule, *inputs(**options)))


def test_without_gradients_what_could_have_one_is_run():
    with torch.no_grad():
        assert flex.refusal(request(Rule(), *inputs(grad=True))) is None


@pytest.mark.messages
def test_dropout_is_refused():
    assert flex.refusal(asked(Rule(dropout=0.1), training=True)) == "it has no dropout"
    assert flex.refusal(asked(Rule(dropout=0.1))) is None


@pytest.mark.messages
def test_chosen_rows_are_refused():
    assert "these are chosen ones" in flex.refusal(asked(Rule()).rows(torch.tensor([2, 0])))


@pytest.mark.messages
def test_other_devices_are_refused():
    tensors = [tensor.to("meta") for tensor in inputs()]
    assert flex.refusal(request(Rule(), *tensors)) == "its kernels are for cpu and cuda, not for meta"


@pytest.mark.messages
def test_torch_func_is_refused():
    told = []

    def one(*sample):
        told.append(flex.refusal(request(Rule(), *sample)))
        return sample[0]

    torch.func.vmap(one)(*inputs())
    assert told == ["compiled kernels know no torch.func transforms"]


@pytest.mark.messages
def test_without_a_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "there is none; on Debian and Ubuntu: apt-get install g++" in flex.refusal(asked(Rule()))


@pytest.mark.messages
def test_without_python_s_headers_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    assert "Python.h, which is missing; on Debian and Ubuntu: apt-get install python3-dev" in flex.refusal(
        asked(Rule())
    )


def test_a_mask_for_another_batch_is_refused_as_elsewhere():
    with pytest.raises(ShapeError):
        flex.refusal(asked(Rule(mask=masks.lengths([1, 2, 3]))))


class TestTrapsOfPyTorch:
    """What the backend keeps away from, seen to be there: a trap that is gone need not be avoided any more."""

    pytestmark = slowly

    def test_a_score_in_half_precision_must_not_leave_a_score_mod_on_a_cpu(self, fresh):
        query, key, value = inputs(q_len=140, kv_len=140, dtype=torch.bfloat16)
        found = torch.compile(flex_attention)(
            query, key, value, lambda score, b, h, q_idx, kv_idx: (score - 0.5 * kv_idx).to(score.dtype)
        )
        bias = torch.arange(140).double() * -0.5
        expected = scaled_dot_product_attention(
            query.double(), key.double(), value.double(), attn_mask=bias[None]
        )
        assert (found - expected).abs().max() > 1
