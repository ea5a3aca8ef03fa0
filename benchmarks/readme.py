"""Generated tables in the pages of the documentation, each between two marks that carry its name.

A page that shows the table `speed` holds ``<!-- speed -->`` and, below it, ``<!-- end of speed -->``; :func:`write`
replaces what stands between them.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "docs" / "results"
PAGES = {
    name: RESULTS / f"{name}.md" for name in ("graphs", "speed", "device", "language", "options", "edges", "recall")
}  # where a table stands
PAGES["highlights"] = README


def write(name: str, text: str, page: Path | None = None) -> None:
    """Put a text between the marks of this name, in place of what stands there.

    Args:
        name: Of the table, one of `PAGES` where no page is given.
        text: In Markdown.
        page: The file; by default the one of `PAGES`.
    """
    begin, end = _marks(name)
    page = page or PAGES[name]
    before, rest = page.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def shown(name: str, page: Path | None = None) -> str:
    """What stands between the marks of this name; arguments as those of :func:`write`."""
    begin, end = _marks(name)
    return (page or PAGES[name]).read_text(encoding="utf-8").split(begin)[1].split(end)[0].strip()


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- end of {name} -->"
