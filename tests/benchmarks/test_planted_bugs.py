"""The script that plants bugs: what it replaces is there, and a tree that does not run is no catch."""

import pytest

from benchmarks import planted_bugs
from benchmarks.planted_bugs import BUGS, ROOT, Bug, main, passes, plant


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_every_bug_can_still_be_planted(bug, tmp_path):
    place = tmp_path / bug.path
    place.parent.mkdir(parents=True)
    place.write_text((ROOT / bug.path).read_text())
    plant(bug, tmp_path)
    assert place.read_text() != (ROOT / bug.path).read_text()
    compile(place.read_text(), bug.path, "exec")
    assert all((ROOT / test).is_file() for test in bug.tests)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A package of one function, and two tests, of which one sees what the function does."""
    (tmp_path / "sums.py").write_text("def add(a, b):\n    return a + b\n")
    (tmp_path / "test_seeing.py").write_text("from sums import add\n\n\ndef test():\n    assert add(2, 3) == 5\n")
    (tmp_path / "test_blind.py").write_text("from sums import add\n\n\ndef test():\n    assert add(0, 0) == 0\n")
    monkeypatch.setattr(planted_bugs, "ROOT", tmp_path)

    def bug(name, planted="return a - b", text="return a + b", test="test_seeing.py"):
        return Bug(name, "sums.py", text, planted, (test,))

    monkeypatch.setattr(
        planted_bugs, "BUGS", (bug("seen"), bug("unseen", test="test_blind.py"), bug("gone", text="x"))
    )
    return tmp_path


def test_a_bug_is_caught_where_a_test_fails(tree, capsys):
    assert main(["seen"]) == 1  # a word of both names
    assert capsys.readouterr().out.splitlines() == ["caught: seen", "NOT CAUGHT: unseen", "1 of 2 caught"]
    assert (tree / "sums.py").read_text().endswith("return a + b\n")


def test_a_text_that_is_gone_is_reported(tree):
    with pytest.raises(ValueError, match="'text' of the bug 'gone' must stand once"):
        main(["gone"])
    with pytest.raises(SystemExit, match="no bug has such a name"):
        main(["nothing"])


def test_a_tree_that_does_not_run_is_no_catch(tree):
    (tree / "sums.py").write_text("def add(a, b:\n")
    with pytest.raises(RuntimeError, match="could not be run"):
        passes(tree, ("test_seeing.py",))


def test_the_tree_must_pass_without_a_bug(tree):
    (tree / "test_seeing.py").write_text("def test():\n    assert False\n")
    with pytest.raises(SystemExit, match="must pass on the tree as it is"):
        main(["seen"])
