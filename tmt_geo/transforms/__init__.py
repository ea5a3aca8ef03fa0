"""Transforms of PyG data."""

from tmt_geo.transforms.add_mesh import AddMesh

__all__ = ["AddMesh"]
