import pytest
import torch
from torch import nn

from attnkit.conformance.case import Skip
from attnkit.conformance.relations import purity
from tests.conformance.making import RIGHT, CrossAttention, Steps, fault, findings


@pytest.mark.parametrize("check", purity.CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize(("make", "said"), RIGHT.values(), ids=RIGHT)
def test_right_targets_are_left_alone(check, make, said):
    assert findings(check.run, make(), **said) == []


class ScalesTokens(Steps):
    def project(self, x, read):
        with torch.no_grad():
            x.mul_(0.5)
        return super().project(x, read)


class ScalesMemory(CrossAttention):
    def project(self, x, read):
        with torch.no_grad():
            read.mul_(0.5)
        return super().project(x, read)


class WritesMask(Steps):
    def allowed(self, q_len, kv_len, start, keep):
        if keep is not None:
            keep[:, 0] = False
        return super().allowed(q_len, kv_len, start, keep)


class ScalesInTraining(Steps):
    def project(self, x, read):
        with torch.no_grad():
            x.mul_(0.5 if self.training else 1.0)
        return super().project(x, read)


@pytest.mark.parametrize(
    ("target", "said", "what"),
    [
        (ScalesTokens(), {}, "evaluation changes its own tokens, by 0.5"),
        (ScalesMemory(memory_dim=18), {"cross": True, "memory_dim": 18}, "changes its own memory"),
        (WritesMask(), {}, "changes its own mask"),
        (ScalesInTraining(), {}, "training changes its own tokens"),
    ],
)
def test_a_call_that_changes_what_it_is_given_is_found(target, said, what):
    (found,) = findings(purity.run_inputs, target, **said)
    assert found.fault == "state-changed"
    assert what in found.sentence


class Counts(Steps):
    def build(self):
        self.register_buffer("calls", torch.zeros(()))

    def finish(self, context, x):
        self.calls += 1
        return super().finish(context, x)


class Decays(Steps):
    def finish(self, context, x):
        if self.training:
            with torch.no_grad():
                self.output.weight.mul_(0.9)
        return super().finish(context, x)


class Table(Steps):
    """A table is made by the first call, as many do; it is no change."""

    def build(self):
        self.register_buffer("table", None)

    def allowed(self, q_len, kv_len, start, keep):
        if self.table is None or self.table.shape[0] < q_len:
            self.table = torch.zeros(q_len)
        return super().allowed(q_len, kv_len, start, keep)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (Counts, "evaluation changes the buffers calls"),
        (Decays, "training changes the parameters output.weight"),
    ],
)
def test_a_call_that_changes_the_module_is_found(kind, what):
    (found,) = findings(purity.run_state, kind())
    assert found.fault == "state-changed"
    assert what in found.sentence


def test_statistics_in_training_and_tables_are_no_fault():
    class Norm(Steps):
        def build(self):
            self.norm = nn.BatchNorm1d(24)

        def finish(self, context, x):
            return super().finish(self.norm(context.mT).mT, x)

    assert findings(purity.run_state, Norm()) == []
    assert findings(purity.run_state, Table()) == []


class Remembers(Steps):
    def build(self):
        self.last = 0.0

    def finish(self, context, x):
        output = super().finish(context, x) + 0.01 * self.last
        self.last = context.detach().mean()
        return output


class KeepsByShape(Steps):
    def build(self):
        self.held = {}

    def weigh(self, scores, allowed):
        return self.held.setdefault(scores.shape, super().weigh(scores, allowed))


class OneRoom(Steps):
    """Writes every output to the same memory."""

    def finish(self, context, x):
        output = super().finish(context, x)
        room = self.__dict__.setdefault("room", torch.empty_like(output).detach())
        if room.shape != output.shape:
            return output
        return room.copy_(output.detach())


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (Remembers, "after a call with other tokens"),
        (KeepsByShape, "after a call with other tokens"),
        (OneRoom, "both are the same memory"),
    ],
)
def test_a_call_that_depends_on_calls_before_is_found(kind, what):
    (found,) = findings(purity.run_later, kind())
    assert found.fault == "state-changed"
    assert what in found.sentence


class Seeds(Steps):
    def finish(self, context, x):
        torch.manual_seed(3)
        return super().finish(context, x)


class StopsGradients(Steps):
    def finish(self, context, x):
        output = super().finish(context, x)
        torch.set_grad_enabled(False)
        return output


@pytest.mark.parametrize(
    ("kind", "what"), [(Seeds, "random state"), (StopsGradients, "recording of gradients")]
)
def test_a_call_that_sets_something_global_is_found(kind, what):
    (found,) = findings(purity.run_globals, kind())
    assert found.fault == "state-changed"
    assert what in found.sentence
    assert torch.is_grad_enabled()


class LosesItsScale(Steps):
    factor = 1.0

    def scale(self):
        return super().scale() * self.factor

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "factor"}

    def __deepcopy__(self, memo):
        made = LosesItsScale()
        made.load_state_dict(self.state_dict())
        made.factor = self.factor
        return made.to(self.query.weight).train(self.training)


def test_a_module_that_loses_something_when_it_is_pickled_is_found():
    target = LosesItsScale()
    target.factor = 2.0
    assert fault(purity.run_pickled, target) == "state-changed"


def test_a_module_that_cannot_be_pickled_is_left_out():
    class Local(Steps):
        pass

    with pytest.raises(Skip, match="it cannot be pickled"):
        findings(purity.run_pickled, Local())
