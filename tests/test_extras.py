"""What is missing is named with the extra that brings it."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from torch_geometric.data import Data

from tmt_geo import viz
from tmt_geo.extras import MissingExtra, check_extra, needs_extra

REPOSITORY = Path(__file__).parents[1]
# Where it is imported by another name.
DISTRIBUTIONS = {"umap": "umap-learn", "torch_cluster": "torch-cluster", "faiss": "faiss-cpu"}


def extras():
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def calls():
    """Each use of the two functions in the package: the extra, and the packages that it should bring."""
    for path in sorted((REPOSITORY / "tmt_geo").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check_extra":
                _, extra, *packages = (argument.value for argument in node.args)
                yield extra, packages
            if isinstance(node, ast.With) and getattr(node.items[0].context_expr, "func", None) is not None:
                call = node.items[0].context_expr
                if getattr(call.func, "id", "") == "needs_extra":
                    names = [getattr(part, "module", None) or part.names[0].name for part in node.body]
                    yield call.args[1].value, [name.split(".")[0] for name in names]


def test_an_extra_brings_what_it_is_named_for():
    found = list(calls())
    assert {extra for extra, _ in found} >= {"demo", "figures", "web"}
    for extra, packages in found:
        brings = {re.split(r"[<>=]", requirement)[0] for requirement in extras()[extra]}
        for package in packages:
            assert DISTRIBUTIONS.get(package, package) in brings, extra


def test_missing_packages_are_named_together(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(MissingExtra) as info:
        check_extra("the page", "web", "plotly", "json", "no_such_package")
    assert (
        str(info.value) == 'the page needs the extra web: pip install "tmt-geo[web]" (got no plotly, no_such_package)'
    )
    check_extra("the page", "web", "json")


def test_only_a_missing_package_is_a_missing_extra():
    with pytest.raises(RuntimeError, match="broken"), needs_extra("a figure", "figures"):
        raise RuntimeError("broken")


GRAPHS = [Data(x=torch.randn(4, 3), edge_index=torch.tensor([[0, 1], [1, 2]]))] * 2
FIGURES = {
    "anchor_use": lambda: viz.anchor_use(
        [Data(x=torch.ones(2, 3), edge_index=torch.zeros(2, 0).long(), anchor_weights=torch.ones(2, 2))],
        torch.ones(1, 2, 3),
    ),
    "cluster_flow": lambda: viz.cluster_flow(GRAPHS),
    "decay_curves": lambda: viz.decay_curves(torch.ones(1, 2)),
    "depth_profile": lambda: viz.depth_profile([("noun", 3, 1.5)], num_layers=2),
    "loss_curves": lambda: viz.loss_curves({"a": [{"step": 1, "loss": 1.0}]}),
    "mesh_evolution": lambda: viz.mesh_evolution(GRAPHS),
    "neighbor_table": lambda: viz.neighbor_table(GRAPHS, [0]),
    "stream_gate": lambda: viz.stream_gate(
        [Data(x=torch.ones(2, 3), edge_index=torch.zeros(2, 0).long(), stream_gate=torch.ones(2, 3))]
    ),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_every_figure_says_what_to_install(draw, monkeypatch):
    for name in ["plotly", *(name for name in sys.modules if name.startswith("plotly."))]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "tmt-geo\[figures\]" \(got no plotly'):
        draw()


def test_clusters_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match=r'pip install "tmt-geo\[figures\]" \(got no networkx\)'):
        viz.mesh_clusters(GRAPHS)
