"""Transforms of PyG data."""

from tmt_geo.transforms.add_mesh import AddMesh
from tmt_geo.transforms.event_graph import EventGraph

__all__ = ["AddMesh", "EventGraph"]
