"""The names and the README that users see."""

import re
from pathlib import Path

import pytest

import tmt_geo

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_public_names():
    assert set(tmt_geo.__all__) == {
        "AddMesh", "DualStreamFFN", "DynamicMeshAttention", "EventGraph", "ExitGate", "MemoryAnchors", "Mesh",
        "MeshAttention", "MeshGNN", "MeshIndex", "TMTConfig", "TMTEncoder", "TMTLayer", "TMTModel", "TMTOutput",
        "TemporalDecay", "knn_graph", "set_compile", "temporal_graph",
    }  # fmt: skip
    for name in tmt_geo.__all__:
        assert getattr(tmt_geo, name).__name__ == name
        assert name in dir(tmt_geo)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        tmt_geo.nothing_of_the_kind  # noqa: B018


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_python_of_the_readme_runs(block):
    names = {}
    exec(compile(block, str(README), "exec"), names)
    assert names["figure" if "figure" in names else "out"] is not None


def test_every_output_the_readme_names_exists():
    table = re.findall(r"^\| `(.+?)` \| \(", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = {name.strip("` ") for row in table for name in row.split(",")}
    assert named and named <= set(tmt_geo.TMTOutput.__dataclass_fields__)
