"""Runs of several processes end as a run of one with the same batches: gates, anchors and copy head in play."""

import json
import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.skipif(
    os.environ.get("TMT_FULL_TEST") != "1", reason="starts several processes; set TMT_FULL_TEST=1 to run it"
)

SCRIPT = """
import json
import sys
import torch
from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.train import TrainConfig, train_model

torch.set_num_threads(1)
torch.manual_seed(0)
out, batch_size, steps, resume, change, options = sys.argv[1:]
sizes = dict(vocab_size=50, d_model=16, n_layers=3, n_heads=2, max_seq_len=12, graph_k=2, window=2, dropout=0.0)
model = TMTModel(TMTConfig(**sizes, memory_anchors=3, **json.loads(change)))
rows = [{"input_ids": [(7 * start + i * i) % 50 for i in range(12)]} for start in range(32)]
options = dict(batch_size=int(batch_size), block_size=12, log_every=1, save_every=2, progress=False,
               warmup=0.0, **json.loads(options))
train_model(model, None, rows, None, TrainConfig(out=out, steps=int(steps), resume=resume == "resume", **options))
torch.save({name: buffer for name, buffer in model.named_buffers()}, out + "/buffers.pt")
"""
CASES = {
    "fixed": ({"exit_threshold": 0.12, "exit_loss_coef": 1.0, "memory_momentum": 1.0}, {}),
    "budget": ({"exit_rule": "budget", "exit_budget": 0.6}, {}),
    "learned": ({"exit_rule": "learned", "exit_budget": 0.6}, {}),
    "copy head": ({"exit_rule": "budget", "exit_budget": 0.6, "copy_k": 2, "copy_memory": 30}, {"streams": True}),
}


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("case", CASES)
def test_ranks_equal_one_process_with_their_batches(tmp_path, case, ranks):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks)]
    change, options = map(json.dumps, CASES[case])
    runs = [
        [sys.executable, script, tmp_path / "one", "8", "6", "new"],
        [*launch, script, tmp_path / "all", str(8 // ranks), "6", "new"],
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for arguments in runs:
        done = subprocess.run(
            [*arguments, change, options], env=environment, capture_output=True, text=True, timeout=1800
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, several = (json.loads((tmp_path / name / "history.json").read_text()) for name in ("one", "all"))
    assert [row["step"] for row in several] == [row["step"] for row in one] == [1, 2, 3, 4, 5, 6]
    for mine, theirs in zip(one, several, strict=True):
        for name in ("loss", "edges_per_token", "active_share/2", "grad_norm"):
            assert theirs[name] == pytest.approx(mine[name], rel=1e-5), (name, mine["step"])
    buffers, expected = (torch.load(tmp_path / name / "buffers.pt") for name in ("all", "one"))
    for name, buffer in expected.items():
        torch.testing.assert_close(buffers[name], buffer, rtol=1e-5, atol=1e-6, msg=name)


def test_two_processes_go_on_from_a_checkpoint(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    change, options = map(json.dumps, CASES["fixed"])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for arguments in (["2", "4", "new"], ["2", "6", "resume"]):
        command = [*launch, script, tmp_path / "two", *arguments, change, options]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-3000:]
    history = json.loads((tmp_path / "two" / "history.json").read_text())
    assert [row["step"] for row in history] == [1, 2, 3, 4, 5, 6]
