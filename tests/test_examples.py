"""The examples run at toy size, each to a last line with its figures, and their page lists them all."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
HELPERS = {"data_folder"}
# What makes it small, the public data it reads, and what else it imports.
SCRIPTS = {
    "add_mesh": ("--epochs 2 --k 3", "planetoid", None),
    "explain": ("--epochs 3 --nodes 2", None, "sklearn"),
    "gps": ("--epochs 1", None, None),
    "graph_classification": ("--epochs 1", "tu", None),
    "heterogeneous": ("--epochs 2", None, None),
    "large_graph": ("--epochs 1 --nodes 500", None, None),
    "link_prediction": ("--epochs 2", "planetoid", "sklearn"),
    "many_processes": ("--epochs 1 --graphs 40", None, None),
    "node_classification": ("--epochs 2", "planetoid", None),
    "point_clouds": ("--epochs 1 --points 16", "geometric_shapes", None),
    "temporal_graph": ("--epochs 1 --events 2000", "bitcoin_otc", "sklearn"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where they keep their data, together."""
    return tmp_path_factory.mktemp("examples")


@pytest.mark.parametrize("name", SCRIPTS)
def test_runs(name, folder, request, monkeypatch, capsys):
    options, data, package = SCRIPTS[name]
    if package:
        pytest.importorskip(package, reason=f"{package} is not installed")
    if data:
        public = request.getfixturevalue("data_folder")
        if not (public / data).is_dir():
            pytest.skip(f"the public data is absent: no folder {public / data}")
        monkeypatch.setenv("TMT_GEO_DATA", str(public))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *options.split()])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    share = float(re.search(r"[:\w] (\d\.\d{3})$", last)[1])
    assert 0 < share <= 1


def test_each_is_tried_and_on_the_page_with_its_command():
    assert {path.stem for path in EXAMPLES.glob("*.py")} - HELPERS == set(SCRIPTS)
    page = (EXAMPLES / "README.md").read_text()
    assert sorted(re.findall(r"^\| `python examples/(\w+)\.py` \|", page, re.MULTILINE)) == sorted(SCRIPTS)
    for name in SCRIPTS:
        code = (EXAMPLES / f"{name}.py").read_text()
        assert f"\n\npython examples/{name}.py\n" in code.split('"""')[1]


@pytest.mark.skipif(
    os.environ.get("TMT_FULL_TEST") != "1", reason="starts several processes; set TMT_FULL_TEST=1 to run it"
)
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_end_as_one(processes):
    """With batches that do not divide evenly among them, too; every line is the same."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [str(EXAMPLES / "many_processes.py"), "--epochs", "3", "--graphs", "47", "--batch_size", "10"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    one, several = (
        subprocess.run(
            [sys.executable, *start, *command], env=environment, capture_output=True, text=True, timeout=1800
        )
        for start in ([], launch)
    )
    assert one.returncode == several.returncode == 0, several.stderr[-3000:]
    assert len(one.stdout.splitlines()) == 3
    for mine, theirs in zip(one.stdout.splitlines(), several.stdout.splitlines(), strict=True):
        numbers = [[float(number) for number in re.findall(r"\d+\.\d+", line)] for line in (mine, theirs)]
        assert numbers[1] == pytest.approx(numbers[0], abs=2e-5)
