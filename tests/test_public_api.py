"""The names that users see."""

import re
from pathlib import Path

import pytest

import tmt_geo

PAGE = Path(__file__).parents[1] / "docs" / "language_model.md"


def test_the_public_names():
    assert set(tmt_geo.__all__) == {
        "AddMesh", "DualStreamFFN", "DynamicMeshAttention", "EdgeAttention", "EventGraph", "ExitGate",
        "MemoryAnchors", "Mesh", "MeshAttention", "MeshGNN", "MeshIndex", "MultiStreamTransformer", "QuarticConfig",
        "QuarticGNN", "QuarticLayer", "QuarticModel", "QuarticTransformer", "RelationalTransformer", "TMTBackbone",
        "TMTConfig", "TMTEncoder", "TMTForCausalLM", "TMTLayer", "TMTModel", "TMTOutput", "TemporalDecay",
        "knn_graph", "set_compile", "temporal_graph",
    }  # fmt: skip
    for name in tmt_geo.__all__:
        assert getattr(tmt_geo, name).__name__ == {"TMTModel": "TMTForCausalLM"}.get(name, name)
        assert name in dir(tmt_geo)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        tmt_geo.nothing_of_the_kind  # noqa: B018


def test_every_output_the_documentation_names_exists():
    table = re.findall(r"^\| `(.+?)` \| \(", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    named = {name.strip("` ") for row in table for name in row.split(",")}
    assert named and named <= set(tmt_geo.TMTOutput.__dataclass_fields__)
