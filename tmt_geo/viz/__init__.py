"""Pictures of what a model did, made from its outputs alone: nothing here reaches into a layer."""

from tmt_geo.viz.comparison import Contender, comparison_rows
from tmt_geo.viz.exit_depth import Passage, exit_depth_html, layers_computed, visible_token
from tmt_geo.viz.loss_curves import loss_curves
from tmt_geo.viz.report import build_report

__all__ = [
    "Contender",
    "Passage",
    "build_report",
    "comparison_rows",
    "exit_depth_html",
    "layers_computed",
    "loss_curves",
    "visible_token",
]
