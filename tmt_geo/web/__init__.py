"""The local page of ``tmt-geo web``: type a text, see what a saved model does with it, let it continue."""

from tmt_geo.web.app import build_app, serve
from tmt_geo.web.figures import draw, frames
from tmt_geo.web.model_cache import ModelCache, find_runs
from tmt_geo.web.streaming import stream_text

__all__ = ["ModelCache", "build_app", "draw", "find_runs", "frames", "serve", "stream_text"]
