"""The naive versions are definitions: they take nothing from what they define, but types to write in a signature."""

import ast
from pathlib import Path

import pytest

import tmt_geo

NAIVE = sorted((Path(next(iter(tmt_geo.__path__))) / "ops" / "naive").glob("*.py"))


def taken(code: str) -> set[str]:
    """Names from elsewhere in the package that the code does something with."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if getattr(node, field, None) is not None:
                setattr(node, field, None)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tmt_geo"):
            own = node.module.startswith("tmt_geo.ops.naive")
            found |= set() if own else {alias.asname or alias.name for alias in node.names} & names
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("tmt_geo")}
    return found


@pytest.mark.parametrize("path", NAIVE, ids=lambda path: path.name)
def test_a_definition_takes_nothing_from_what_it_defines(path):
    assert not taken(path.read_text())


def test_the_rule_finds_what_is_taken():
    head = "from __future__ import annotations\nfrom tmt_geo.ops.edges import LIMIT, Edges\n"
    assert taken(head + "def f(edges: Edges) -> Edges:\n    return edges\n") == set()
    assert taken(head + "def f(edges: Edges):\n    return edges.ptr[:LIMIT]\n") == {"LIMIT"}
    assert taken("from tmt_geo.ops.naive.knn import in_time\nin_time()\n") == set()
    assert taken("import tmt_geo.ops.knn\n") == {"tmt_geo.ops.knn"}
