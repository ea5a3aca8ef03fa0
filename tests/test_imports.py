import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tmt_geo

# A layer imports from its own rank and from those before it.
RANKS = [
    "extras",
    "ops",
    "transforms",
    "data",
    "nn",
    "models",
    "train",
    "evaluate",
    "viz",
    "compare",
    "apps",
    "web",
    "cli",
    "__main__",
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names.split()}
ROOT = Path(next(iter(tmt_geo.__path__)))


def layer(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "tmt_geo" else None


def imported(node: ast.AST) -> list[str]:
    """Modules that a statement imports; for `from tmt_geo import x`, `tmt_geo.x`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module == "tmt_geo":
        return [f"tmt_geo.{alias.name}" for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def upward_imports(here: str, code: str) -> list[str]:
    """Imports in the code of a module of layer `here` that do not point down."""
    names = [name for node in ast.walk(ast.parse(code)) for name in imported(node)]
    own = [name for name in names if name.split(".")[0] == "tmt_geo"]
    return [name for name in own if layer(name) not in RANK or RANK[layer(name)] > RANK[here]]


def relative_imports(code: str) -> list[int]:
    return [node.lineno for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom) and node.level]


def modules() -> list[tuple[str, Path]]:
    """Every file of the package with the layer it belongs to."""
    found = [(path.relative_to(ROOT), path) for path in sorted(ROOT.rglob("*.py"))]
    return [(short.with_suffix("").parts[0], path) for short, path in found]


LAYERED = [pytest.param(here, path, id=str(path.relative_to(ROOT))) for here, path in modules() if here in RANK]


def test_every_module_has_a_layer():
    strangers = {here for here, _ in modules()} - set(RANK) - {"__init__", "testing"}
    assert not strangers, f"no layer in RANKS for {sorted(strangers)}"


@pytest.mark.parametrize(("here", "path"), LAYERED)
def test_imports_point_down(here, path):
    assert not upward_imports(here, path.read_text())


def test_no_relative_imports():
    bad = {str(path): lines for _, path in modules() if (lines := relative_imports(path.read_text()))}
    assert not bad


UPPER = [param for param in LAYERED if RANK[param.values[0]] < RANK["models"] and param.values[0] != "data"]


@pytest.mark.parametrize(("here", "path"), UPPER)
def test_transformers_stays_below_models(here, path):
    names = {name.split(".")[0] for node in ast.walk(ast.parse(path.read_text())) for name in imported(node)}
    assert "transformers" not in names


@pytest.mark.parametrize(
    ("here", "code"),
    [
        pytest.param("ops", "from tmt_geo.nn.conv import MeshAttention", id="upward"),
        pytest.param("nn", "def f():\n    import tmt_geo.models.tmt", id="upward in a function"),
        pytest.param("train", "from tmt_geo import viz", id="sibling"),
        pytest.param("data", "from tmt_geo import knn_graph", id="public name of the root"),
        pytest.param("ops", "import tmt_geo.testing", id="testing"),
    ],
)
def test_the_rule_finds_planted_imports(here, code):
    assert upward_imports(here, code)


def test_the_rule_lets_downward_imports_pass():
    assert not upward_imports("viz", "import torch\nfrom tmt_geo import ops\nfrom tmt_geo.models import TMTModel")


@pytest.mark.parametrize("module", ["tmt_geo", "tmt_geo.data", "tmt_geo.cli"])
def test_importing_stays_light(module):
    code = f"import sys, {module}; print(sorted({{'transformers', 'datasets', 'plotly'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
