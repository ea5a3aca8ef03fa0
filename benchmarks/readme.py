"""Tables in README.md, each between marks of its own."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).parents[1] / "README.md"

Marks = tuple[str, str]


def write_between(marks: Marks, text: str, readme: Path = README) -> None:
    """Put a text between its marks, in place of what stands there."""
    before, rest = readme.read_text(encoding="utf-8").split(marks[0])
    _, after = rest.split(marks[1])
    readme.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}", encoding="utf-8")


def shown(marks: Marks, readme: Path = README) -> str:
    """What stands between its marks."""
    return readme.read_text(encoding="utf-8").split(marks[0])[1].split(marks[1])[0].strip()
