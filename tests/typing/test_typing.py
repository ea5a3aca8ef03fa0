"""The types that users see, as mypy sees them."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tmt_geo
import tmt_geo.train
from tmt_geo import TMTConfig
from tmt_geo.models.tmt import configuration_tmt

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def complaints(tmp_path_factory) -> dict[str, set[int]]:
    """Lines of the two scripts beside this file that mypy finds wrong with all its rules."""
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--config-file", str(HERE / "mypy.ini"), "--no-error-summary"]
    command += ["--cache-dir", str(tmp_path_factory.mktemp("mypy")), "accepted.py", "refused.py"]
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, cwd=HERE, env=environment)
    assert result.returncode == 1 and not result.stderr, result.stdout + result.stderr
    found = re.findall(r"^(?:.*/)?(\w+\.py):(\d+): error: ", result.stdout, flags=re.MULTILINE)
    return {name: {int(line) for script, line in found if script == name} for name, _ in found}


def test_mypy_accepts_what_users_write(complaints):
    assert "accepted.py" not in complaints


def test_mypy_refuses_what_is_wrong(complaints):
    lines = (HERE / "refused.py").read_text().splitlines()
    marked = {number for number, line in enumerate(lines, start=1) if line.endswith("# refused")}
    assert complaints == {"refused.py": marked}


def seen_by_checkers(module) -> list[ast.stmt]:
    """What stands in a file for checkers alone."""
    nodes = ast.walk(ast.parse(Path(module.__file__).read_text()))
    return [line for node in nodes if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for line in node.body]  # fmt: skip


@pytest.mark.parametrize("module", [tmt_geo, tmt_geo.train], ids=lambda module: module.__name__)
def test_checkers_see_the_names_that_are_imported_late(module):
    imported = [(line.module, alias) for line in seen_by_checkers(module) for alias in line.names]
    assert all(alias.asname == alias.name for _, alias in imported), "a re-export is `X as X`"
    prefix = "" if module is tmt_geo else f"{module.__name__}."
    assert {alias.name: home for home, alias in imported} == {n: prefix + home for n, home in module._HOME.items()}
    assert {alias.name for _, alias in imported} == set(module.__all__)


def test_checkers_see_both_names_of_an_option():
    seen = {line.target.id: ast.literal_eval(line.value) for line in seen_by_checkers(configuration_tmt)}
    assert seen == {name: getattr(TMTConfig(), name) for name in TMTConfig.attribute_map}
