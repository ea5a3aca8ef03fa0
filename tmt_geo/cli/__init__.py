"""The command ``tmt-geo``. One file a command; heavy libraries are imported when a command runs, never for help."""

from tmt_geo.cli.app import app, main

__all__ = ["app", "main"]
