"""A run goes on from the highest step, whatever the number of its digits."""

import json

from transformers import TrainerCallback

from tmt_geo.train import train_model
from tmt_geo.train.checkpoint import checkpoint_folders


class Count(TrainerCallback):
    def __init__(self):
        self.steps = []

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.append(state.global_step)


def test_steps_are_numbers(tmp_path):
    for name in ("checkpoint-1000", "checkpoint-200", "checkpoint-99", "checkpoint-best", "checkpoint-30000"):
        (tmp_path / name).mkdir()
    assert [int(path.name[11:]) for path in checkpoint_folders(tmp_path)] == [99, 200, 1000, 30000]


def test_step_1000_is_gone_on_from_and_not_step_200(tmp_path, llama, blocks, options):
    train_model(llama(), None, blocks(8), None, options(save_every=3))
    for made, step in ((3, 200), (6, 1000)):
        folder = (tmp_path / "run" / f"checkpoint-{made}").rename(tmp_path / "run" / f"checkpoint-{step}")
        state = json.loads((folder / "trainer_state.json").read_text()) | {"global_step": step}
        (folder / "trainer_state.json").write_text(json.dumps(state))
        (folder / "digests.json").unlink()
    count = Count()
    train_model(llama(), None, blocks(8), None, options(steps=1002, resume=True), callbacks=[count])
    assert count.steps == [1001, 1002]


def test_a_run_across_a_power_of_ten_ends_where_it_would_have(tmp_path, llama, blocks, options):
    change = {"save_every": 1, "log_every": 1, "steps": 12}
    whole = train_model(llama(), None, blocks(8), None, options(out=tmp_path / "whole", **change))

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 10

    train_model(llama(), None, blocks(8), None, options(**change), callbacks=[Stop()])
    assert {path.name for path in (tmp_path / "run").glob("checkpoint-*")} == {"checkpoint-9", "checkpoint-10"}
    count = Count()
    resumed = train_model(llama(), None, blocks(8), None, options(resume=True, **change), callbacks=[count])
    assert count.steps == [11, 12]
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
