"""Where figures are kept, and the tables they make."""

from __future__ import annotations

from pathlib import Path

from benchmarks.speed.quality import quality
from benchmarks.speed.row import SpeedRow
from tmt_geo.compare.json_file import read_json, write_json
from tmt_geo.compare.markdown import markdown_table

RESULTS = Path(__file__).parents[1] / "results" / "speed"
BESIDE = "\\* Timed beside other work: seconds of the processor, one thread."
DEVICES = ("cpu", "h200")  # whose tables the README shows, where there are results


def load(path: Path) -> list[dict]:
    """The finished rows of a device; none if nothing has been measured."""
    return read_json(path) or []


def find(rows: list[dict], row: SpeedRow) -> dict | None:
    """The finished row of this name and size."""
    return next((done for done in rows if (done["row"], done["at"]) == (row.name, row.at)), None)


def store(path: Path, result: dict, order: list[SpeedRow]) -> None:
    """Put a finished row into the file of its device, in place of an older one, in the order of the benchmark."""
    done = {(old["row"], old["at"]): old for old in load(path)}
    done[result["row"], result["at"]] = result
    place = {(row.name, row.at): i for i, row in enumerate(order)}
    write_json(path, sorted(done.values(), key=lambda old: place.get((old["row"], old["at"]), len(place))))


def table(rows: list[dict], order: list[SpeedRow]) -> str:
    """All rows of the benchmark as a table in Markdown, those without a result too."""
    lines = []
    for row in order:
        done = find(rows, row)
        bar, aim = row.goal.say(row.goal.bar), row.goal.say(row.goal.aim)
        against, ours, peer, measured = " or ".join(row.peers) or "-", "-", "-", "not measured"
        if done is not None:
            ours, peer = _amount(done["ours"], done["unit"]), _amount(done["peer"], done["unit"])
            against = (done["peer_name"] or against) + (" *" if done.get("clock") == "processor" else "")
            figure = row.goal.figure(done["ours"], done["peer"])
            if figure is not None:
                notes = "".join(f", {name} {value:.3g}" for name, value in done["notes"].items())
                missed = "" if row.met(figure, done["notes"]) else " (**bar missed**)"
                measured = row.goal.say(figure) + notes + missed
        lines.append([row.name, row.at, against, ours, peer, measured, bar, aim, quality(row.model)])
    return markdown_table(["row", "at", "against", "ours", "peer", "measured", "bar", "aim", "quality"], lines)


def tables(folder: Path, order: list[SpeedRow]) -> str:
    """One table a device that has results (the CPU's in any case), under a line that says how they were taken."""
    parts = []
    for device in DEVICES:
        rows = load(folder / f"{device}.json")
        if not rows and device != "cpu":
            continue
        threads = sorted({row["threads"] for row in rows})
        versions = sorted({row["torch"] for row in rows})
        how = f", {'/'.join(map(str, threads))} threads, torch {'/'.join(versions)}" if rows else ""
        parts.append(f"`{device}`{how}:\n\n{table(rows, order)}")
        if any(row.get("clock") == "processor" for row in rows):
            parts.append(BESIDE)
    return "\n\n".join(parts)


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
