"""Pictures of what a model did, made from its outputs alone: nothing here reaches into a layer."""

from tmt_geo.viz.anchor_use import anchor_use, effective_rank
from tmt_geo.viz.cluster_flow import cluster_flow
from tmt_geo.viz.clusters import mesh_clusters
from tmt_geo.viz.comparison import ModelResult, comparison_rows
from tmt_geo.viz.decay_curves import decay_curves
from tmt_geo.viz.depth_profile import depth_profile, depth_rows
from tmt_geo.viz.exit_depth import Passage, exit_depth_html, layers_computed, visible_token
from tmt_geo.viz.explore import Explorer, explore
from tmt_geo.viz.export import save_figure
from tmt_geo.viz.layers import passage_of, token_labels
from tmt_geo.viz.loss_curves import loss_curves
from tmt_geo.viz.mesh_evolution import mesh_evolution
from tmt_geo.viz.neighbor_positions import neighbor_positions
from tmt_geo.viz.neighbor_table import nearest_nodes, neighbor_table
from tmt_geo.viz.page import Section, figures_page
from tmt_geo.viz.positions import Positions, fixed_positions, shared_positions
from tmt_geo.viz.report import build_report
from tmt_geo.viz.stream_gate import stream_gate
from tmt_geo.viz.triangle_tree import triangle_tree
from tmt_geo.viz.why_prediction import why_prediction

__all__ = [
    "Explorer",
    "ModelResult",
    "Passage",
    "Positions",
    "Section",
    "anchor_use",
    "build_report",
    "cluster_flow",
    "comparison_rows",
    "decay_curves",
    "depth_profile",
    "depth_rows",
    "effective_rank",
    "exit_depth_html",
    "explore",
    "figures_page",
    "fixed_positions",
    "layers_computed",
    "loss_curves",
    "mesh_clusters",
    "mesh_evolution",
    "nearest_nodes",
    "neighbor_positions",
    "neighbor_table",
    "passage_of",
    "save_figure",
    "shared_positions",
    "stream_gate",
    "token_labels",
    "triangle_tree",
    "visible_token",
    "why_prediction",
]
