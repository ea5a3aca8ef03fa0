"""No number in the README that a committed result does not hold."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmarks.{name}", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_levers_is_that_of_the_results():
    levers = load("levers")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.split(levers.MARKS[0])[1].split(levers.MARKS[1])[0].strip()
    assert shown == levers.table(levers.RESULTS)
    assert "| llama |" in shown and "| default |" in shown


def test_anchors_keep_full_rank_and_gates_their_budget_on_real_text():
    """What the committed runs on WikiText-2 show, so that a run which fails it is not committed unseen."""
    levers = load("levers")
    for name, options in levers.ROWS.items():
        path = levers.result_file(levers.RESULTS, name)
        if not path.exists() or options is None:
            continue
        row = json.loads(path.read_text(encoding="utf-8"))
        assert all(step["loss"] == step["loss"] for step in row["history"]), f"{name}: NaN"
        assert set(row.get("anchor_rank", [16])) == {16}, name
        if options.get("exit", True):
            share = sum(row["valid"]["active_share"]) / len(row["valid"]["active_share"])
            assert abs(share - options.get("exit_budget", 0.5)) <= 0.05, name
