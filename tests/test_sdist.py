"""What somebody gets who downloads the source: documentation, examples and notebooks too."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def test_the_source_distribution_holds_documentation_examples_and_notebooks(tmp_path):
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        held = {name.split("/", 1)[1] for name in tar.getnames() if "/" in name}
    docs = ("docs/*.md", "docs/*/*.md", "docs/conf.py", "docs/pictures/*.png")
    for kind in (*docs, "examples/*.*", "notebooks/*.ipynb"):
        wanted = {str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob(kind)}
        assert wanted and wanted <= held
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "Makefile", "requirements.txt"} <= held
    assert {f"tmt_geo/viz/explore_page/{name}" for name in ("page.html", "style.css", "main.js")} <= held
    assert not any(name.startswith(("docs/_build", "docs/api")) for name in held)
