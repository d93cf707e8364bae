"""A run that is broken off goes on as if it had not been; one that cannot go on is told why."""

import signal

import click
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from attnkit import Attention
from attnkit.errors import OptionError
from attnkit.lab import History, Plan, command, train, weights_in
from attnkit.lab.checkpoint import CheckpointError, replace_file
from attnkit.lab.data import DataError
from attnkit.lab.progress import in_words


def plan(folder, steps, **more):
    return Plan(folder=folder, steps=steps, warmup=2, **more)


def learner():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    return model, lambda generator: model(torch.randn(8, 3, generator=generator)).square().mean()


def test_ctrl_c_keeps_the_step_that_runs(tmp_path):
    model, loss = learner()
    wanted = train(model, loss, plan(tmp_path / "whole", 6)).loss
    model, loss = learner()
    calls = []

    def interrupted(generator):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return loss(generator)

    with pytest.raises(SystemExit) as stopped:
        train(model, interrupted, plan(tmp_path / "parts", 6))
    assert stopped.value.code == 130
    assert len(calls) == 3
    model, loss = learner()
    assert train(model, loss, plan(tmp_path / "parts", 6)).loss == wanted


def test_a_checkpoint_of_another_run_or_none_at_all_is_refused(tmp_path):
    model, loss = learner()
    train(model, loss, plan(tmp_path, 2))
    with pytest.raises(OptionError, match="seed=0"):
        train(model, loss, plan(tmp_path, 4, seed=1))
    other = nn.Linear(3, 1)
    with pytest.raises(CheckpointError, match="weight"):
        train(other, lambda generator: other(torch.ones(1, 3)).sum(), plan(tmp_path, 4))
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="cannot be read"):
        train(model, loss, plan(tmp_path, 4))
    assert train(model, loss, plan(tmp_path, 4, fresh=True)).loss


def test_what_is_held_out_is_measured_at_the_start_now_and_then_and_at_the_end(tmp_path):
    model, loss = learner()

    def held_out():
        assert not model.training
        assert not torch.is_grad_enabled()
        return model(torch.ones(4, 3)).square().mean()

    history = train(model, loss, plan(tmp_path, 7, measured_every=3), held_out=held_out)
    assert history.at == [0, 3, 6, 7]
    assert (len(history.loss), len(history.held_out)) == (7, 4)
    assert history.held_out[-1] < history.held_out[0]
    assert not model.training


def test_the_rate_rises_and_falls_whatever_the_number_of_steps(tmp_path):
    one, other = (plan(tmp_path, steps, learning_rate=0.5) for steps in (10, 100))
    assert [one.rate(step) for step in range(10)] == [other.rate(step) for step in range(10)]
    assert (one.rate(0), one.rate(1), one.rate(7)) == (0.25, 0.5, 0.25)


def test_a_loss_that_is_no_number_stops_the_run_and_spoils_no_checkpoint(tmp_path):
    model, loss = learner()
    train(model, loss, plan(tmp_path, 2))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(OptionError, match=r"step 3 is nan.*\n.*lower learning_rate"):
        train(model, lambda generator: loss(generator) * torch.nan, plan(tmp_path, 4))
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["steps", "warmup", "measured_every"])
def test_a_number_of_steps_below_one_is_refused(tmp_path, name):
    with pytest.raises(OptionError, match=name):
        Plan(folder=tmp_path, **({"steps": 3} | {name: 0}))


def test_settings_of_another_run_are_refused(tmp_path):
    model, loss = learner()
    train(model, loss, plan(tmp_path, 2), settings={"text": 5})
    with pytest.raises(OptionError, match=r"text=5; now it is 6"):
        train(model, loss, plan(tmp_path, 4), settings={"text": 6})


def test_a_table_that_reads_and_writes_is_kept_once_and_comes_back(tmp_path):
    def tied():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 5, bias=False))
        model[2].weight = model[0].weight
        return model, lambda generator: model(torch.randint(5, (6,), generator=generator)).square().mean()

    model, loss = tied()
    whole = train(model, loss, plan(tmp_path / "whole", 6)).loss
    model, loss = tied()
    train(model, loss, plan(tmp_path / "parts", 3))
    again, loss = tied()
    assert train(again, loss, plan(tmp_path / "parts", 6)).loss == whole
    assert again[2].weight is again[0].weight
    assert int(again[1].num_batches_tracked) == 6


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "kept"
    replace_file(path, b"old")
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(CheckpointError, match="cannot be written: no space"):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_history_draws_itself(tmp_path):
    History([3.0, 2.0, 1.0], [3.1, 1.2], [0, 3]).picture().save(tmp_path / "with.png")
    History([3.0, 2.0, 1.0]).picture().save(tmp_path / "without.png")
    assert all(path.stat().st_size > 1000 for path in tmp_path.iterdir())


def test_time_left_is_told_in_words():
    assert [in_words(seconds) for seconds in (3.2, 119.0, 150.0, 3600.0)] == [
        "3 s",
        "119 s",
        "2 min",
        "60 min",
    ]


def test_what_a_layer_reads_inside_of_a_model():
    torch.manual_seed(0)
    layers = nn.ModuleList([Attention(8, 2, mechanism="causal") for _ in range(2)])
    x = torch.randn(1, 4, 8)
    seen = weights_in(layers[1], lambda: layers[1](layers[0](x)))
    assert seen.shape == (1, 2, 4, 4)
    torch.testing.assert_close(seen.sum(-1), torch.ones(1, 2, 4))
    assert not seen.triu(1).any()
    last = weights_in(layers[0], lambda: (layers[0](x), layers[0](x.flip(1))))
    torch.testing.assert_close(last, weights_in(layers[0], lambda: layers[0](x.flip(1))))
    with pytest.raises(OptionError, match="did not run"):
        weights_in(layers[1], lambda: layers[0](x))
    with pytest.raises(OptionError, match="reads from a cache"):
        weights_in(layers[0], lambda: layers[0](x, cache=layers[0].new_cache()))


def test_a_command_has_the_options_of_a_run_and_prints_refusals(tmp_path):
    @command("mine", steps=12)
    @click.option("--mine", default=1)
    def main(mine, *, steps, folder, seed, fresh):
        click.echo(f"{mine} {steps} {folder} {seed} {fresh}")
        if mine == 2:
            raise DataError(where="here", what="there is none", fix="another")

    def said(*arguments):
        return CliRunner().invoke(main, arguments)

    assert said().output == "1 12 runs/mine 0 False\n"
    assert said("--steps", "3", "--folder", "x", "--seed", "4", "--fresh").output == "1 3 x 4 True\n"
    assert said("--steps", "0").exit_code == 2
    refused = said("--mine", "2")
    assert (refused.exit_code, "there is none" in refused.output) == (1, True)
    assert "Traceback" not in refused.output
