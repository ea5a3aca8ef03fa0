"""A run that is cut off ends, resumed, with the weights that it would have had, to the last bit."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file
from transformers import TrainerCallback, TrainingArguments

from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.models.tmt.memory_tmt import memory_after, memory_from_state, memory_state
from tmt_geo.train import LanguageModelTrainer, collate_blocks, train_model
from tmt_geo.train.exact_trainer import check_shapes

REMEMBERING = {"copy_k": 2, "copy_memory": 40}
CASES = [REMEMBERING, {"copy_k": 0, "mesh_memory": 20}, {"copy_k": 2, "mesh_memory": 20}]


@pytest.fixture
def tmt():
    def make(**change):
        torch.manual_seed(0)
        sizes = {"vocab_size": 50, "d_model": 16, "n_layers": 2, "n_heads": 2, "max_seq_len": 12, "graph_k": 2}
        return TMTModel(TMTConfig(**sizes | {"window": 2, "memory_anchors": 3, "exit_budget": 0.7} | change))

    return make


class Cut(TrainerCallback):
    """A machine that goes off in the middle of a step."""

    def __init__(self, step):
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def losses(history):
    timed = ("per_second", "runtime")
    return [{name: value for name, value in row.items() if not name.endswith(timed)} for row in history]


@pytest.mark.parametrize("case", CASES, ids=["copy head", "mesh memory", "both"])
@pytest.mark.parametrize("grad_accum", [1, 2])
def test_what_was_read_is_remembered(tmt, blocks, options, watch_steps, tmp_path, case, grad_accum):
    """With dropout, across the end of the text, and with rows of the loss curve that no checkpoint ends at."""
    case = case | {"dropout": 0.1}
    change = {"steps": 9, "save_every": 4, "log_every": 3, "batch_size": 2, "streams": True, "grad_accum": grad_accum}
    whole = tmt(**case)
    expected = train_model(whole, None, blocks(11), blocks(2), options(out=tmp_path / "whole", **change))
    with pytest.raises(KeyboardInterrupt):
        train_model(tmt(**case), None, blocks(11), blocks(2), options(**change), callbacks=[Cut(7)])
    torch.manual_seed(9)
    resumed, steps = tmt(**case), watch_steps()
    for parameter in resumed.parameters():
        torch.nn.init.normal_(parameter)
    result = train_model(resumed, None, blocks(11), blocks(2), options(resume=True, **change), callbacks=[steps])
    assert steps.seen == [5, 6, 7, 8, 9]
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    assert losses(result.history) == losses(expected.history)


def test_without_its_memory_it_would_end_elsewhere(tmt, blocks, options, tmp_path):
    """So that the test above can fail."""
    change = {"steps": 6, "save_every": 3, "batch_size": 2, "streams": True}
    whole, resumed = tmt(**REMEMBERING), tmt(**REMEMBERING)
    train_model(whole, None, blocks(20), None, options(out=tmp_path / "whole", **change))
    with pytest.raises(KeyboardInterrupt):
        train_model(tmt(**REMEMBERING), None, blocks(20), None, options(**change), callbacks=[Cut(4)])
    checkpoint = tmp_path / "run" / "checkpoint-3"
    save_file({}, checkpoint / "memory_0.safetensors")
    (checkpoint / "digests.json").unlink()
    train_model(resumed, None, blocks(20), None, options(resume=True, **change))
    assert any(not torch.equal(resumed.state_dict()[name], tensor) for name, tensor in whole.state_dict().items())


@pytest.mark.parametrize("case", CASES, ids=["copy head", "mesh memory", "both"])
def test_a_memory_is_its_tensors(tmt, case):
    model, ids = tmt(**case), torch.randint(50, (3, 10))
    given = {"use_cache": "mesh_memory" in case}
    output = model.train()(ids, labels=ids, **given)
    argument = "past_key_values" if given["use_cache"] else "copy_memory"
    memory = memory_after(model.config, output)
    state = memory_state(memory)
    assert state and all(tensor.is_contiguous() and not tensor.requires_grad for tensor in state.values())
    model.eval()
    without = model(ids, **given).logits
    expected = model(ids, **{argument: memory.rows(slice(None))}, **given).logits
    again = model(ids, **{argument: memory_from_state(model.config, state)}, **given).logits
    assert torch.equal(again, expected) and not torch.equal(again, without)
    assert memory_from_state(model.config, memory_state(None)) is None


def test_another_number_of_processes_is_named(tmt, blocks, options, tmp_path):
    change = {"steps": 4, "save_every": 2, "batch_size": 2, "streams": True}
    with pytest.raises(KeyboardInterrupt):
        train_model(tmt(**REMEMBERING), None, blocks(20), None, options(**change), callbacks=[Cut(2)])
    checkpoint = tmp_path / "run" / "checkpoint-2"
    shutil.copy(checkpoint / "memory_0.safetensors", checkpoint / "memory_1.safetensors")
    (checkpoint / "digests.json").unlink()
    with pytest.raises(ValueError, match=r"^'resume' needs as many processes as wrote .*checkpoint-2, 2 \(got 1\)$"):
        train_model(tmt(**REMEMBERING), None, blocks(20), None, options(resume=True, **change))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exp_avg", torch.zeros(3)),
        ("exp_avg_sq", torch.zeros(50, 8)),
        ("step", torch.zeros(0)),
        ("step", torch.ones(2)),
    ],
)
def test_a_state_of_other_shapes_is_named_before_a_kernel_reads_it(llama, blocks, options, tmp_path, name, value):
    with pytest.raises(KeyboardInterrupt):
        train_model(llama(), None, blocks(8), None, options(save_every=2), callbacks=[Cut(3)])
    path = tmp_path / "run" / "checkpoint-2" / "optimizer.pt"
    state = torch.load(path, weights_only=True)
    state["state"][0][name] = value
    torch.save(state, path)
    path.with_name("digests.json").unlink()
    with pytest.raises(
        ValueError, match=rf"^'resume' needs a state of the optimiser that fits the model, {name} of shape"
    ):
        train_model(llama(), None, blocks(8), None, options(save_every=2, resume=True))


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.Adafactor])
def test_a_state_that_fits_is_taken(kind):
    parameters = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(2))]
    optimizer = kind(parameters, lr=0.1, **({"momentum": 0.9} if kind is torch.optim.SGD else {}))
    sum(parameter.sum() for parameter in parameters).backward()
    optimizer.step()
    check_shapes(optimizer, optimizer.state_dict())


def test_the_best_checkpoint_is_kept_and_found(llama, blocks, tmp_path):
    """As with the Trainer itself: of the two newest one gives way to the best."""
    arguments = TrainingArguments(
        str(tmp_path), max_steps=6, save_steps=1, eval_steps=1, eval_strategy="steps", save_total_limit=1,
        load_best_model_at_end=True, learning_rate=0.5, report_to="none", use_cpu=True, disable_tqdm=True,
        label_names=["labels"],
    )  # fmt: skip
    trainer = LanguageModelTrainer(
        llama(), arguments, data_collator=collate_blocks, train_dataset=blocks(8), eval_dataset=blocks(3)
    )
    trainer.train()
    rows = {row["step"]: row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row}
    best = min(rows, key=rows.get)
    assert best != 6, "the rate should make the loss rise again"
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    assert (tmp_path / f"checkpoint-{best}").is_dir() and not (tmp_path / "unfinished").exists()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(rows[best])
    state = json.loads((tmp_path / f"checkpoint-{best}" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / f"checkpoint-{best}")
