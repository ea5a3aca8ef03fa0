"""Muon and AdamW as one optimiser: who moves what, by how much, and what a checkpoint makes of it."""

import copy
import math

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from tmt_geo.evaluate import build_peer
from tmt_geo.evaluate.with_copy_head import CopyLM
from tmt_geo.models import TMTModel
from tmt_geo.testing.tiny import tiny_config
from tmt_geo.train import train_model
from tmt_geo.train.exact_trainer import check_shapes
from tmt_geo.train.muon import MuonWithAdamW


class Watch(TrainerCallback):
    """The weights before and after each step, its gradients, and the groups of the optimiser."""

    def __init__(self):
        self.before, self.after, self.gradients, self.rates = [], [], [], []

    def on_pre_optimizer_step(self, args, state, control, model, optimizer, **kwargs):
        names = {parameter: name for name, parameter in model.named_parameters()}
        self.groups = [(g["weight_decay"], {names[p] for p in g["params"]}) for g in optimizer.param_groups]
        self.rates.append([g["lr"] for g in optimizer.param_groups])
        self.before.append({name: p.detach().clone() for name, p in model.named_parameters()})
        self.gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    def on_optimizer_step(self, args, state, control, model, **kwargs):
        self.after.append({name: p.detach().clone() for name, p in model.named_parameters()})


def trained(model, blocks, options, **change):
    watch = Watch()
    change = {"optimizer": "muon", "steps": 3, "warmup": 0, "max_grad_norm": 0.0} | change
    result = train_model(model, None, blocks(8), None, options(**change), callbacks=[watch])
    return watch, result


def test_matrices_move_along_their_orthogonal_factor_and_the_rest_by_the_sign(llama, blocks, options):
    """The first step in closed form: U V^T of the gradient U S V^T, to which five iterations come near."""
    rate, weight_decay = 1e-3, 0.3
    watch, _ = trained(llama(), blocks, options, learning_rate=rate, weight_decay=weight_decay)
    (_, matrices), (_, decayed), (_, rest) = watch.groups
    assert len(matrices) == 14 and decayed == {"model.embed_tokens.weight"} and "model.norm.weight" in rest
    for name, before in watch.before[0].items():
        gradient = watch.gradients[0][name].double()
        moved = (watch.after[0][name].double() - before.double()) / rate
        if name not in rest:
            moved += weight_decay * before.double()
        if name not in matrices:
            settled = gradient.abs() > 1e-5  # far above AdamW's epsilon
            torch.testing.assert_close(moved[settled], -gradient.sign()[settled], rtol=0, atol=5e-3)
            continue
        u, values, v = torch.linalg.svd(gradient, full_matrices=False)
        turned = -(u.T @ moved @ v.T) / (0.2 * math.sqrt(max(before.shape)))
        large = values > 0.05 * values.norm()  # smaller ones take more iterations
        turned, found = turned[large][:, large], turned.diagonal()[large]
        assert len(found) >= 4 and found.min() > 0.6 and found.max() < 1.3, name
        assert (turned - found.diag()).abs().max() < 0.05, name  # the rest is bfloat16


def test_the_schedule_drives_both(llama, blocks, options):
    watch, result = trained(llama(), blocks, options, steps=6, warmup=2, learning_rate=1e-3, log_every=1)
    expected = [0, 5e-4, *(1e-3 * 0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4))]
    assert all(len(set(rates)) == 1 for rates in watch.rates)
    assert [rates[0] for rates in watch.rates] == pytest.approx(expected)
    # And both obey it: the last step is no longer than its rate allows.
    for name, before in watch.before[0].items():
        assert torch.equal(watch.after[0][name], before), name  # of a rate of zero


@pytest.mark.parametrize("kind", ["tmt", "gpt2", "copying"])
def test_muon_has_the_linear_maps_and_adamw_all_else(kind, blocks, options):
    torch.manual_seed(0)
    sizes = {"vocab_size": 61, "d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 12}
    if kind == "tmt":
        model = TMTModel(tiny_config(copy_k=2, qk_norm=True))
    elif kind == "gpt2":
        model = build_peer("gpt2", 8000, tie=False, **sizes)
    else:
        model = CopyLM(build_peer("llama", 8000, **sizes), k=2, index_dim=4)
    watch, _ = trained(model, blocks, options, weight_decay=0.7)
    (first, matrices), (second, decayed), (third, rest) = watch.groups
    assert (first, second, third) == (0.7, 0.7, 0.0)
    known = dict(model.named_parameters())
    assert matrices | decayed | rest == set(known) and len(matrices) + len(decayed) + len(rest) == len(known)
    assert all(known[name].dim() == 2 and min(known[name].shape) > 1 for name in matrices)
    assert all(known[name].dim() >= 2 for name in decayed) and all(known[name].dim() < 2 for name in rest)
    expected = {
        "tmt": {"backbone.embed_tokens.weight", "copy_head.lin_gate.weight"}
        | {name for name in known if name.endswith(("attention.shift", "gate.lin.weight"))},
        "gpt2": {"transformer.wte.weight", "transformer.wpe.weight", "lm_head.weight"},
        "copying": {"model.model.embed_tokens.weight", "copy_head.lin_gate.weight"},
    }
    assert decayed == expected[kind]
    assert any("index" in name for name in matrices) == (kind != "gpt2")


@pytest.mark.parametrize("ema_decay", [None, 0.8])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_run_equals_an_uninterrupted_one(optimizer, ema_decay, blocks, options, tmp_path):
    def tmt():
        torch.manual_seed(0)
        return TMTModel(tiny_config(exit_budget=0.6, dropout=0.1))

    change = {"optimizer": optimizer, "ema_decay": ema_decay, "steps": 8, "save_every": 4, "log_every": 2}
    rows, valid = blocks(11), blocks(3)
    whole = tmt()
    expected = train_model(whole, None, rows, valid, options(out=tmp_path / "whole", eval_every=4, **change))

    class Stop(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 6:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(tmt(), None, rows, valid, options(eval_every=4, **change), callbacks=[Stop()])
    torch.manual_seed(9)
    resumed = TMTModel(tiny_config(exit_budget=0.6, dropout=0.1))
    result = train_model(resumed, None, rows, valid, options(eval_every=4, resume=True, **change))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    losses = [[row.get("loss", row.get("eval_loss")) for row in part.history] for part in (expected, result)]
    assert losses[0] == losses[1]


def optimizer_of(*shapes):
    matrices = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    vector = nn.Parameter(torch.randn(3))
    built = MuonWithAdamW([{"params": matrices}], [{"params": [vector]}], lr=0.1, betas=(0.9, 0.95))
    for parameter in (*matrices, vector):
        parameter.grad = torch.randn_like(parameter)
    built.step()
    return built


def test_a_state_of_other_shapes_is_refused():
    state = optimizer_of((4, 5), (2, 3)).state_dict()
    optimizer_of((4, 5), (2, 3)).load_state_dict(state)
    with pytest.raises(ValueError, match=r"momentum_buffer of shape \(5, 4\) \(got \(4, 5\)\)$"):
        check_shapes(optimizer_of((5, 4), (2, 3)), state)


def test_a_state_goes_on_where_it_was():
    one = optimizer_of((4, 5))
    other = optimizer_of((4, 5))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for mine, theirs in zip(one.param_groups, other.param_groups, strict=True):
        for a, b in zip(mine["params"], theirs["params"], strict=True):
            b.data.copy_(a.data)
            b.grad = a.grad.clone()
    for _ in range(2):
        one.step()
        other.step()
    for mine, theirs in zip(one.param_groups, other.param_groups, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine["params"], theirs["params"], strict=True))
