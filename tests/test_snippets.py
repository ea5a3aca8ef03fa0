"""Every snippet of README, CONTRIBUTING and the documentation runs, or at least names what exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from tmt_geo.cli import app

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of these languages."""
    return [code for language, code in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def commands(page: Path) -> list[list[str]]:
    """The lines of a page's shell blocks, as words, comments left out."""
    lines = "\n".join(blocks(page, "bash", "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


LINES = [
    pytest.param(words, id=f"{name}: {' '.join(words)[:60]}")
    for name, page in zip(NAMES, PAGES, strict=True)
    for words in commands(page)
]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    """From top to bottom, as somebody would who reads the page."""
    if "save_figure" in page.read_text(encoding="utf-8"):
        pytest.importorskip("plotly")
    monkeypatch.chdir(tmp_path)
    names = {}
    for code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), names)
    assert names


def test_there_are_snippets_of_both_kinds():
    assert sum(len(blocks(page, "python")) for page in PAGES) >= 10
    assert sum(words[0] == "tmt-geo" for page in PAGES for words in commands(page)) >= 10


def check_tmt_geo(words: list[str]) -> None:
    """A sub-command, with options that it knows."""
    known = {"--help"}
    for parameter in typer.main.get_command(app).commands[words[0]].params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    assert options(words) <= known


def options(words: list[str]) -> set[str]:
    return {word.split("=")[0] for word in words if re.match(r"--\w", word)}


def check_module(words: list[str]) -> None:
    """`python -m module --option`, for a module of ours or of a library, or `python -c`."""
    if words[0] == "-c":
        compile(words[1], "<shell>", "exec")
        return
    name, rest = words[1], words[2:]
    assert words[0] == "-m" and find_spec(name.split(".")[0]) is not None
    if name == "tmt_geo":
        check_tmt_geo(rest)
    elif name.startswith("benchmarks."):
        path = REPOSITORY.joinpath(*name.split("."))
        source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")
        for shared in re.findall(r"^from benchmarks\.(\w+) import", source, re.MULTILINE):  # which may read the line
            part = REPOSITORY.joinpath("benchmarks", f"{shared}.py")
            source += part.read_text(encoding="utf-8") if part.exists() else ""
        assert all(f'"{option}"' in source for option in options(rest))


def check_make(words: list[str]) -> None:
    """Targets of the Makefile."""
    targets = [word for word in words if "=" not in word]
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)


def check_pip(words: list[str]) -> None:
    """Extras of pyproject.toml, and files of requirements."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        if extras := re.fullmatch(r"(?:\.|tmt-geo)\[(.+)\]", word):
            assert set(extras[1].split(",")) <= project["optional-dependencies"].keys()
        if word.endswith(".txt"):
            assert (REPOSITORY / word).is_file()


@pytest.mark.parametrize("words", LINES)
def test_a_line_of_shell_names_what_exists(words):
    tool, rest = words[0], words[1:]
    match tool.removeprefix(".venv/bin/"):
        case "tmt-geo":
            check_tmt_geo(rest)
        case "python":
            check_module(rest)
        case "torchrun":
            check_module(rest[rest.index("-m") :])
        case "make":
            check_make(rest)
        case "pip":
            check_pip(rest)
        case _:
            pytest.fail(f"no rule says how to check {tool!r}")


@pytest.mark.parametrize(
    ("check", "line"),
    [
        pytest.param(check_tmt_geo, "train --no-such-option", id="option"),
        pytest.param(check_tmt_geo, "fly", id="sub-command"),
        pytest.param(check_module, "-m benchmarks.speed --no-such-option", id="option of a benchmark"),
        pytest.param(check_module, "-m no_such_module", id="module"),
        pytest.param(check_make, "coffee", id="target"),
        pytest.param(check_pip, "install .[no-such-extra]", id="extra"),
    ],
)
def test_the_checks_find_what_does_not_exist(check, line):
    with pytest.raises((AssertionError, KeyError)):
        check(shlex.split(line))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_pictures_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not re.match(r"https?://|#", target):
            assert (page.parent / target.split("#")[0]).exists(), target


def test_pictures_are_small():
    for page in PAGES:
        for name in re.findall(r"!\[.+?\]\((.+?)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / name).stat().st_size < 300_000, name


def test_the_readme_is_short():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    assert "docs/pictures/" in readme
