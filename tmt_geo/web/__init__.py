"""The local demo ``tmt-geo web``: a page on which to type a text and watch a saved model read and continue it."""

from tmt_geo.web.app import build_app, serve
from tmt_geo.web.look import look, pictures
from tmt_geo.web.shelf import Shelf, find_runs
from tmt_geo.web.write import write

__all__ = ["Shelf", "build_app", "find_runs", "look", "pictures", "serve", "write"]
