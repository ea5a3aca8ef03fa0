import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    os.environ.get("TMT_FULL_TEST") != "1", reason="starts two processes; set TMT_FULL_TEST=1 to run it"
)

SCRIPT = """
import sys
import torch
from tmt_geo.models import TMTConfig, TMTModel
from tmt_geo.train import TrainConfig, train_model

torch.set_num_threads(1)
torch.manual_seed(0)
sizes = dict(vocab_size=50, d_model=16, n_layers=3, n_heads=2, max_seq_len=12, graph_k=2, window=2, dropout=0.0)
model = TMTModel(TMTConfig(**sizes, memory_momentum=1.0, exit_threshold=0.12, exit_loss_coef=1.0))
rows = [{"input_ids": [(7 * start + i) % 50 for i in range(12)]} for start in range(8)]
out, batch_size, steps, resume = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "resume"
options = dict(batch_size=batch_size, block_size=12, log_every=1, save_every=2, progress=False)
train_model(model, None, rows, None, TrainConfig(out=out, steps=steps, resume=resume, **options))
"""


def test_two_processes_equal_one_with_twice_the_batch(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for arguments in (
        [sys.executable, script, tmp_path / "one", "4", "6", "new"],
        [*launch, script, tmp_path / "two", "2", "4", "new"],
        [*launch, script, tmp_path / "two", "2", "6", "resume"],
    ):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((tmp_path / name / "history.json").read_text()) for name in ("one", "two"))
    # the first four steps of the shorter run fall along a shorter cosine, so compare what does not depend on the rate
    assert [row["step"] for row in two] == [row["step"] for row in one] == [1, 2, 3, 4, 5, 6]
    for name in ("loss", "gate_loss", "edges_per_token", "active_share/2", "grad_norm"):
        assert two[0][name] == pytest.approx(one[0][name], rel=1e-5), name
    assert two[1]["loss"] == pytest.approx(one[1]["loss"], rel=1e-3)
