"""The running average of the weights: what it is, who sees it, and that training does not."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, TrainerCallback

from tmt_geo.train import train_model
from tmt_geo.train.run_folder import OPTIONS_FILE


class Weights(TrainerCallback):
    """The weights after each step."""

    def __init__(self):
        self.steps = []

    def on_step_end(self, args, state, control, model, **kwargs):
        self.steps.append({name: p.detach().double() for name, p in model.named_parameters()})


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_what_is_kept_is_the_average_and_what_trains_is_not(llama, blocks, options, tmp_path, optimizer):
    rows, valid, decay = blocks(9), blocks(5), 0.7
    change = {"steps": 7, "log_every": 1, "eval_every": 3, "optimizer": optimizer, "learning_rate": 1e-2}
    seen, plain_seen, model = Weights(), Weights(), llama()
    averaged = train_model(model, None, rows, valid, options(ema_decay=decay, **change), callbacks=[seen])
    config = options(out=tmp_path / "plain", **change)
    plain = train_model(llama(), None, rows, valid, config, callbacks=[plain_seen])
    for one, other in zip(seen.steps, plain_seen.steps, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    losses = [[row["loss"] for row in result.history if "loss" in row] for result in (averaged, plain)]
    assert losses[0] == losses[1]

    def average(steps):
        """The sum written out: the first weights have all the weight that is left."""
        shares = [decay ** (steps - 1), *((1 - decay) * decay ** (steps - step) for step in range(2, steps + 1))]
        assert sum(shares) == pytest.approx(1)
        return {
            name: sum(share * step[name] for share, step in zip(shares, seen.steps, strict=False))
            for name in seen.steps[0]
        }

    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), average(7)[name], rtol=1e-5, atol=1e-7)
    loaded = AutoModelForCausalLM.from_pretrained(averaged.out)
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in model.state_dict().items())

    ids = torch.tensor([row["input_ids"] for row in valid])
    evaluated = {row["step"]: row["eval_loss"] for row in averaged.history if "eval_loss" in row}
    for step, loss in evaluated.items():
        then = copy.deepcopy(model).eval()
        then.load_state_dict({name: tensor.float() for name, tensor in average(step).items()}, strict=False)
        with torch.no_grad():
            assert loss == pytest.approx(then(ids, labels=ids).loss.item(), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_killed_before_its_model_was_written_ends_with_the_average(llama, blocks, options, tmp_path, optimizer):
    settings = {"steps": 4, "save_every": 2, "ema_decay": 0.5, "optimizer": optimizer}
    whole = llama()
    train_model(whole, None, blocks(5), blocks(2), options(out=tmp_path / "run", **settings))
    for path in (tmp_path / "run").iterdir():
        if path.is_file() and path.name != OPTIONS_FILE:
            path.unlink()
    resumed = llama()
    train_model(resumed, None, blocks(5), blocks(2), options(out=tmp_path / "run", resume=True, **settings))
    assert all(torch.equal(whole.state_dict()[name], tensor) for name, tensor in resumed.state_dict().items())


def test_a_weight_without_a_gradient_stands_where_it_stood(llama, blocks, options):
    model = llama()
    model.model.layers[0].mlp.up_proj.requires_grad_(False)
    before = model.model.layers[0].mlp.up_proj.weight.clone()
    train_model(model, None, blocks(5), blocks(2), options(steps=3, ema_decay=0.5))
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, before)


@pytest.mark.parametrize("value", [1.0, -0.1, "0.9"])
def test_a_decay_out_of_range_is_named(options, value):
    with pytest.raises(ValueError, match=r"^'ema_decay' must be .*\(got .*\)$"):
        options(ema_decay=value)


def test_an_unknown_optimiser_is_named(options):
    with pytest.raises(ValueError, match=r"^'optimizer' must be one of adamw, muon \(got 'sgd'\)$"):
        options(optimizer="sgd")
