"""How the documentation is built: ``make docs``. Nothing here needs a network."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

import tmt_geo

project = "tmt_geo"
author = "The tmt_geo authors"
version = release = tmt_geo.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
html_theme = "furo"
html_title = f"tmt_geo {release}"
html_copy_source = False
exclude_patterns = ["_build"]
templates_path = ["_templates"]

autodoc_typehints = "none"  # types stand in the docstrings
autosummary_imported_members = True
default_role = "code"  # single backticks in docstrings name arguments
napoleon_custom_sections = ["Shapes"]  # as PyG has them
napoleon_use_ivar = True

# The reference has a page a package and a page a name. The names are those of each package's `__all__`, each under the
# first package that has it: `tmt_geo.MeshAttention`, not `tmt_geo.nn.MeshAttention`.
PACKAGES = ("", ".nn", ".models", ".transforms", ".data", ".train", ".evaluate", ".viz", ".compare")
API = Path(__file__).parent / "api"


def public_names(package: str) -> list[str]:
    """The classes and functions of a package's `__all__`."""
    module = importlib.import_module(package)
    return [name for name in module.__all__ if callable(getattr(module, name))]


def write_page(name: str, title: str, *parts: str) -> None:
    """Write a page of the reference."""
    text = "\n\n".join([f"{title}\n{'=' * len(title)}", *parts])
    (API / f"{name}.rst").write_text(f"{text}\n", encoding="utf-8")


def directive(head: str, options: list[str], lines: list[str]) -> str:
    """A directive of reStructuredText with options and content."""
    return "\n".join([f".. {head}", *(f"   :{option}" for option in options), "", *(f"   {line}" for line in lines)])


def write_reference() -> None:
    """Write the pages that autosummary starts from, anew."""
    shutil.rmtree(API, ignore_errors=True)
    API.mkdir()
    shown: set[str] = set()
    pages = []
    for package in [f"tmt_geo{part}" for part in PACKAGES]:
        names = [name for name in public_names(package) if name not in shown]
        shown |= set(names)
        if names:
            pages.append(package)
            about = directive(f"automodule:: {package}", ["no-members:"], [])
            table = directive("autosummary::", ["toctree: generated", "nosignatures:"], names)
            write_page(package, package, about, f".. currentmodule:: {package}", table)
    write_page("index", "API reference", directive("toctree::", ["maxdepth: 2"], pages))


write_reference()
