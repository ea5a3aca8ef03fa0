"""The examples run at toy size, each to a last line with its figures, and their page lists them all."""

import re
import runpy
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
