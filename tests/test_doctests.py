"""The examples in docstrings: they run, and every public layer and function at the top has one."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import tmt_geo

ROOT = Path(next(iter(tmt_geo.__path__)))
MODULES = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
NO_EXAMPLE = {"TMTOutput"}  # what a model returns, which users do not make


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted and not result.failed


@pytest.mark.parametrize("name", sorted(set(tmt_geo.__all__) - NO_EXAMPLE))
def test_a_public_name_has_an_example(name):
    assert ">>> " in (getattr(tmt_geo, name).__doc__ or "")
