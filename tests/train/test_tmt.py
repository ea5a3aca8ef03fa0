"""The language model of this package under the Trainer."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, TrainerCallback

from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.train import train_model


@pytest.fixture
def tmt():
    def make(**change):
        torch.manual_seed(0)
        sizes = {"vocab_size": 50, "d_model": 16, "n_layers": 3, "n_heads": 2, "max_seq_len": 12, "graph_k": 2}
        return TMTModel(TMTConfig(**sizes | {"window": 2, "memory_anchors": 3} | change))

    return make


def test_accumulated_steps_equal_one_large_step(tmt, blocks, options, tmp_path):
    """With a gate loss of its own in the sum. The anchors stand still, since each forward would move them."""
    rows, gradients, logged = blocks(20), [], []
    ids = torch.tensor([row["input_ids"] for row in rows])
    threshold = tmt(exit_threshold=1.0).eval()(ids).confidences[0].median().item()

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            # what no token reached has no gradient in a small batch and a zero one in a large
            kept = {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
            gradients[-1].append(kept)

    for batch_size, grad_accum in ((4, 1), (1, 4)):
        model = tmt(exit_threshold=threshold, exit_loss_coef=1.0, dropout=0.0, memory_momentum=1.0).double()
        gradients.append([])
        change = {"batch_size": batch_size, "grad_accum": grad_accum, "steps": 2, "log_every": 1}
        config = options(out=tmp_path / f"{grad_accum}", **change)
        logged.append(train_model(model, None, rows, None, config, callbacks=[Keep()]).history)

    assert any(gradient.abs().max() > 0 for name, gradient in gradients[0][0].items() if "gate.lin" in name)
    for large, small in zip(*gradients, strict=True):
        torch.testing.assert_close(small, large, rtol=1e-6, atol=1e-9)
    for large, small in zip(*logged, strict=True):
        assert 0 < large["active_share/2"] < 1
        for name in ("loss", "gate_loss", "active_share/2", "active_share/3", "edges_per_token"):
            assert small[name] == pytest.approx(large[name], rel=1e-5), name


@pytest.mark.parametrize(("threshold", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_active_shares_and_edges_are_logged(tmt, blocks, options, threshold, share):
    model = tmt(exit_threshold=threshold, graph_k=20, window=0)
    train, valid = train_model(model, None, blocks(8), blocks(3), options(steps=2)).history
    assert [train[f"active_share/{layer}"] for layer in (1, 2, 3)] == [1, share, share]
    assert [valid[f"eval_active_share/{layer}"] for layer in (1, 2, 3)] == [1, share, share]
    # k exceeds the length: an active token attends to all its past and itself, (S + 1) / 2 tokens on average
    assert train["edges_per_token"] == pytest.approx((1 + 2 * share) / 3 * 13 / 2)
    assert train["gate_loss"] > 0


def test_budgets_hold_in_bfloat16_as_in_float32(tmt, blocks, options, tmp_path):
    """Of three layers that compute half on average, 1 + r + r^2 = 3 / 2: all, 0.37 and 0.13 of the tokens."""
    for bf16 in (False, True):
        change = {"steps": 8, "batch_size": 8, "learning_rate": 1e-5, "out": tmp_path / str(bf16), "bf16": bf16}
        *_, train, valid = train_model(tmt(), None, blocks(64), blocks(16), options(**change)).history
        assert train["loss"] == pytest.approx(math.log(50), abs=0.3)
        for shares in (
            [train[f"active_share/{layer}"] for layer in (1, 2, 3)],
            [valid[f"eval_active_share/{layer}"] for layer in (1, 2, 3)],
        ):
            assert shares == pytest.approx([1, 0.366, 0.134], abs=0.1), bf16


def test_resumed_run_equals_an_uninterrupted_one(tmt, blocks, options, tmp_path):
    """Anchors and running thresholds are part of the state."""
    change = {"steps": 6, "save_every": 3, "log_every": 1}
    whole, resumed = tmt(exit_budget=0.7), tmt(exit_budget=0.7)
    expected = train_model(whole, None, blocks(10), None, options(out=tmp_path / "whole", **change))
    stop = type("Stop", (TrainerCallback,), {"on_save": lambda self, args, state, control, **kwargs: _stop(control)})
    train_model(tmt(exit_budget=0.7), None, blocks(10), None, options(**change), callbacks=[stop()])
    result = train_model(resumed, None, blocks(10), None, options(resume=True, **change))
    assert [row["loss"] for row in result.history] == [row["loss"] for row in expected.history]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name


def _stop(control):
    control.should_training_stop = True
    return control


def test_run_leaves_what_hugging_face_loads(tmt, tokenizer, blocks, options):
    model = tmt()
    out = train_model(model, tokenizer, blocks(8), blocks(2), options(eval_every=3)).out
    loaded, ids = AutoModelForCausalLM.from_pretrained(out).eval(), torch.arange(12).unsqueeze(0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    torch.testing.assert_close(loaded(ids).logits, model.eval()(ids).logits, rtol=0, atol=1e-6)
    assert loaded.config.use_cache is True


def test_model_learns(tmt, blocks, options):
    history = train_model(tmt(), None, blocks(40), blocks(8), options(steps=60, learning_rate=1e-2)).history
    assert history[-1]["eval_loss"] < history[0]["loss"] - 1


def test_rows_read_streams_and_remember_them(tmt, blocks, options):
    """Each row goes on where it stopped, and the copy head is handed what the row has read."""
    model, rows, seen = tmt(copy_k=2, copy_memory=24), blocks(11), []

    def look(module, args, kwargs):
        memory = kwargs.get("copy_memory")
        seen.append((kwargs["input_ids"], None if memory is None else memory.token))

    model.register_forward_pre_hook(look, with_kwargs=True)
    train_model(model, None, rows, blocks(3), options(steps=7, batch_size=2, streams=True))
    ids = torch.tensor([row["input_ids"] for row in rows])
    read = seen[:5]  # one epoch: two streams of five blocks, the eleventh is dropped
    for t, (batch, memory) in enumerate(read):
        assert torch.equal(batch, ids[[t, 5 + t]])
        before = [torch.cat([ids[s : s + t].flatten() for s in (0,)])[-36:], ids[5 : 5 + t].flatten()[-36:]]
        assert memory is None if t == 0 else torch.equal(memory, torch.stack(before)), t
    assert torch.equal(seen[5][0], ids[[0, 5]])  # and again
    evaluation = [memory for _, memory in seen[7:]]
    assert evaluation and all(memory is None for memory in evaluation)


def test_random_order_hands_on_no_memory(tmt, blocks, options):
    model, seen = tmt(copy_k=2), []
    model.register_forward_pre_hook(lambda m, a, k: seen.append("copy_memory" in k), with_kwargs=True)
    train_model(model, None, blocks(8), None, options(steps=3, batch_size=2))
    assert seen == [False] * 3
