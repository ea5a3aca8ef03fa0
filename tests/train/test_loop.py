import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from tmt_geo.evaluate.with_copy_head import CopyLM
from tmt_geo.train import train_model


class Seen(TrainerCallback):
    """Gradients as the optimiser gets them, and its settings."""

    def __init__(self):
        self.gradients = []
        self.groups = None
        self.betas = None

    def on_pre_optimizer_step(self, args, state, control, model, optimizer, **kwargs):
        self.gradients.append({name: p.grad.clone() for name, p in model.named_parameters()})
        names = {id(p): name for name, p in model.named_parameters()}
        self.betas = optimizer.param_groups[0]["betas"]
        self.groups = [(g["weight_decay"], {names[id(p)] for p in g["params"]}) for g in optimizer.param_groups]


def test_run_leaves_what_hugging_face_loads(llama, tokenizer, blocks, options):
    model = llama()
    result = train_model(model, tokenizer, blocks(40), blocks(4), options(steps=30, learning_rate=1e-2))
    loaded = AutoModelForCausalLM.from_pretrained(result.out).eval()
    ids = torch.arange(10).unsqueeze(0)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    torch.testing.assert_close(loaded(ids).logits, model.eval()(ids).logits, rtol=0, atol=1e-6)
    assert loaded.config.use_cache is True  # the Trainer's own setting must not be saved with the model
    assert loaded.config.eos_token_id == tokenizer.eos_token_id
    assert len(AutoTokenizer.from_pretrained(result.out)) == len(tokenizer)
    assert json.loads((result.out / "train_config.json").read_text())["learning_rate"] == 1e-2
    assert (result.out / "trainer_state.json").is_file()
    losses = [row["loss"] for row in result.history if "loss" in row]
    assert losses[0] == pytest.approx(math.log(50), abs=0.3)
    assert losses[-1] < losses[0] - 0.5


def test_history_is_what_was_logged(llama, blocks, options):
    result = train_model(llama(), None, blocks(20), blocks(5), options(steps=7, log_every=3, eval_every=4))
    assert [(row["step"], "loss" in row, "eval_loss" in row) for row in result.history] == [
        (3, True, False),
        (4, False, True),
        (6, True, False),
        (7, True, False),  # the last step is logged and evaluated, wherever the steps end
        (7, False, True),
    ]
    assert all(row["tokens_per_second"] > 0 for row in result.history if "loss" in row)
    assert result.tokens_per_second > 0
    assert json.loads((result.out / "history.json").read_text()) == result.history


@pytest.mark.parametrize("kind", ["llama", "gated", "copying"])
def test_losses_are_means_over_targets(llama, gated, blocks, options, kind):
    """At learning rate ~0 the logged loss is that of the fresh model over its targets, not over its inputs.

    The Trainer counts the targets of the library's own classes right, and one too many a row of any other's; of a
    model that can take shifted labels too, it would not take the loss in evaluation without label names.
    """
    model, rows = {"llama": llama(), "gated": gated, "copying": CopyLM(llama(), k=4, index_dim=8)}[kind], blocks(12)
    with torch.no_grad():
        ids = torch.tensor([row["input_ids"] for row in rows])
        expected = model.eval()(ids, labels=ids).loss.item()
    change = {"steps": 3, "batch_size": 4, "log_every": 3, "learning_rate": 1e-12}
    result = train_model(model, None, rows, rows[:7], options(**change))
    with torch.no_grad():
        valid = model.eval()(ids[:7], labels=ids[:7]).loss.item()
    assert result.history[0]["loss"] == pytest.approx(expected, rel=1e-5)
    assert result.history[1]["eval_loss"] == pytest.approx(valid, rel=1e-5)  # 7 rows: the last batch is short


def test_model_figures_are_logged(gated, blocks, options):
    rows, valid = blocks(12), blocks(3)
    result = train_model(gated, None, rows, valid, options(steps=3, batch_size=2, grad_accum=2, log_every=3))
    train, evaluation = result.history
    ids, valid_ids = (torch.tensor([row["input_ids"] for row in part]) for part in (rows, valid))
    assert train["gate_loss"] == pytest.approx(ids.float().mean().item(), rel=1e-5)
    assert train["active_share/1"] == 1
    assert train["active_share/3"] == pytest.approx((ids > 1).float().mean().item(), rel=1e-5)
    assert "active_share/4" not in train
    assert train["edges_per_token"] == pytest.approx(2)
    assert evaluation["eval_active_share/2"] == pytest.approx((valid_ids > 1).float().mean().item(), rel=1e-5)
    assert evaluation["eval_edges_per_token"] == pytest.approx(2)


def test_figures_of_a_row_belong_to_its_steps(gated, options):
    rows = [{"input_ids": [token] * 12} for token in range(4)]
    history = train_model(gated, None, rows, None, options(steps=4, batch_size=1, log_every=1)).history
    assert sorted(row["gate_loss"] for row in history) == [0, 1, 2, 3]
    assert all(row["active_share/2"] == float(row["gate_loss"] > 1) for row in history)


def test_accumulated_steps_equal_one_large_step(llama, blocks, options, tmp_path):
    seen, losses = [], []
    for batch_size, grad_accum in ((4, 1), (1, 4), (2, 2)):
        seen.append(Seen())
        change = {"batch_size": batch_size, "grad_accum": grad_accum, "steps": 3, "log_every": 1}
        config = options(out=tmp_path / f"{grad_accum}", **change)
        result = train_model(llama().double(), None, blocks(20), None, config, callbacks=[seen[-1]])
        losses.append([row["loss"] for row in result.history])
    for other, loss in zip(seen[1:], losses[1:], strict=True):
        assert loss == pytest.approx(losses[0], rel=1e-6)  # the Trainer sums losses in float32
        for one, many in zip(seen[0].gradients, other.gradients, strict=True):
            torch.testing.assert_close(many, one, rtol=1e-6, atol=1e-9)


def test_decay_is_for_matrices_alone(llama, blocks, options):
    seen, model = Seen(), llama(attention_bias=True)
    train_model(model, None, blocks(4), None, options(steps=1, weight_decay=0.3), callbacks=[seen])
    matrices = {name for name, p in model.named_parameters() if p.dim() == 2}
    assert seen.groups[0] == (0.3, matrices)
    assert seen.groups[1] == (0.0, {name for name, _ in model.named_parameters()} - matrices)
    assert "model.embed_tokens.weight" in matrices


@pytest.mark.parametrize("bound", [0.0, 0.01, 100.0])
def test_gradients_are_scaled_down_to_the_bound(llama, blocks, options, bound):
    seen = Seen()
    history = train_model(
        llama(), None, blocks(4), None, options(steps=1, max_grad_norm=bound, adam_beta2=0.8), callbacks=[seen]
    ).history
    norm = torch.cat([g.flatten() for g in seen.gradients[0].values()]).norm().item()
    whole = history[0]["grad_norm"]
    assert whole > 0.1
    assert norm == pytest.approx(bound if bound == 0.01 else whole, rel=1e-3)
    assert seen.betas == (0.9, 0.8)


def test_schedule_warms_up_and_falls_to_zero(llama, blocks, options):
    change = {"steps": 20, "warmup": 5, "log_every": 1, "learning_rate": 1e-3}
    rates = [row["learning_rate"] for row in train_model(llama(), None, blocks(4), None, options(**change)).history]
    cosine = [1e-3 * 0.5 * (1 + math.cos(math.pi * step / 15)) for step in range(15)]
    assert rates == pytest.approx([1e-3 * step / 5 for step in range(5)] + cosine, rel=1e-6)


def test_resumed_run_equals_an_uninterrupted_one(llama, blocks, options, tmp_path):
    change = {"steps": 8, "save_every": 4, "log_every": 2, "eval_every": 4}
    rows, valid = blocks(11), blocks(3)  # 11 rows: the checkpoint lies inside an epoch
    whole = llama(attention_dropout=0.2)
    expected = train_model(whole, None, rows, valid, options(out=tmp_path / "whole", **change))

    class Stop(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 6:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(llama(attention_dropout=0.2), None, rows, valid, options(**change), callbacks=[Stop()])
    torch.manual_seed(9)  # another process would not have these weights and numbers either
    resumed = llama(attention_dropout=0.2)
    torch.nn.init.normal_(resumed.model.embed_tokens.weight)
    result = train_model(resumed, None, rows, valid, options(resume=True, **change))

    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    kept = [{k: row[k] for k in ("step", "loss", "eval_loss") if k in row} for row in result.history]
    assert kept == [{k: row[k] for k in ("step", "loss", "eval_loss") if k in row} for row in expected.history]


def test_order_of_blocks_depends_on_the_seed_alone(llama, gated, blocks, options, tmp_path):
    """Two models that draw differently see the same batches: what makes them comparable."""

    def order(model, seed, name):
        seen = []
        hook = model.register_forward_pre_hook(lambda m, a, k: seen.append(k["input_ids"]), with_kwargs=True)
        train_model(model, None, blocks(9), None, options(out=tmp_path / name, seed=seed))
        hook.remove()
        return torch.cat([ids.flatten() for ids in seen])

    first = order(gated, 1, "a")
    torch.rand(3)
    assert torch.equal(order(llama(attention_dropout=0.5), 1, "b"), first)
    assert not torch.equal(order(llama(), 2, "c"), first)


def test_bfloat16_computes_in_halves_and_keeps_full_weights(llama, blocks, options):
    model, kinds = llama(), set()
    model.model.layers[0].mlp.up_proj.register_forward_hook(lambda m, i, out: kinds.add(out.dtype))
    result = train_model(model, None, blocks(8), None, options(bf16=True))
    assert kinds == {torch.bfloat16}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert math.isfinite(result.history[-1]["loss"])


def test_threads_are_set(llama, blocks, options):
    before = torch.get_num_threads()
    try:
        train_model(llama(), None, blocks(4), None, options(steps=1, threads=before + 1))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_only_the_newest_checkpoints_are_kept(llama, blocks, options):
    out = train_model(llama(), None, blocks(4), None, options(steps=6, save_every=2, keep_checkpoints=1)).out
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-6"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("train_blocks", {"train_blocks": []}),
        ("train_blocks", {"block_size": 10}),
        ("valid_blocks", {"valid_blocks": [{"input_ids": [1, 2]}]}),
        ("block_size", {"max_position_embeddings": 8}),
        ("tokenizer", {"vocab_size": 49}),
    ],
)
def test_blocks_that_do_not_fit_are_named(llama, tokenizer, blocks, options, name, change):
    parts = {"train_blocks": blocks(4), "valid_blocks": None}
    parts |= {key: change[key] for key in parts if key in change}
    config = options(**({"block_size": change["block_size"]} if "block_size" in change else {}))
    sizes = {key: change[key] for key in ("max_position_embeddings", "vocab_size") if key in change}
    with pytest.raises(ValueError, match=rf"^'{name}' .*\(got .*\)$"):
        train_model(llama(**sizes), tokenizer, parts["train_blocks"], parts["valid_blocks"], config)
    assert not config.out.exists()


def test_ragged_blocks_are_named(llama, blocks, options):
    with pytest.raises(ValueError, match=r"^'rows' must be blocks of one length \(got lengths \[11, 12\]\)$"):
        train_model(llama(), None, blocks(3) + blocks(1, length=11), None, options())


def test_missing_tensorboard_is_named(llama, blocks, options, monkeypatch):
    monkeypatch.setattr("tmt_geo.train.loop.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^'report_to' needs the package tensorboard.*\(got 'tensorboard'\)$"):
        train_model(llama(), None, blocks(3), None, options(report_to="tensorboard"))
