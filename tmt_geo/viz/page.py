"""A page of figures and text: one HTML file that opens offline, in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tmt_geo.viz.explore import PAGE

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b1f23; --soft: #57606a; --line: #d0d7de; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171a; --ink: #e6e9ec; --soft: #9aa4ae; --line: #363c43; }
}
body { background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif;
  max-width: 56rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; } h2 { font-size: 1.15rem; margin-top: 2.4rem; }
p.soft, figcaption { color: var(--soft); } figure { margin: 0; } figcaption { margin-bottom: .6em; }
figure > iframe { min-width: min(94vw, 76rem); margin-left: calc((100% - max(100%, min(94vw, 76rem))) / 2); }
table.results { border-collapse: collapse; width: 100%; }
.results th, .results td { border-bottom: 1px solid var(--line); padding: .4em .6em; text-align: right;
  font-variant-numeric: tabular-nums; }
.results th:first-child { text-align: left; font-weight: normal; }
.results thead th { font-weight: 600; }
blockquote { margin: .4em 0 1.2em; padding: .5em 1em; border-left: 3px solid var(--line); white-space: pre-wrap;
  font-family: ui-monospace, monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2em 1.2em; }
dt { color: var(--soft); } dd { margin: 0; }
pre { background: rgba(128,128,128,.13); padding: .8em 1em; overflow-x: auto; border-radius: 4px; }
"""

# No style sheet reaches into what plotly draws: hand it the colours of the page, now and whenever they change.
_FOLLOW_THEME = """
(function () {
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function paint() {
    var ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
    var page = getComputedStyle(document.documentElement).getPropertyValue("--page").trim();
    Plotly.relayout("{plot_id}", {"font.color": ink, "hoverlabel.bgcolor": page, "hoverlabel.font.color": ink});
  }
  dark.addEventListener("change", paint);
  paint();
})();
"""

_KEEP = (PAGE / "keep.js").read_text(encoding="utf-8")


@dataclass
class Section:
    """A part of a page.

    Args:
        title: Its headline.
        body: A plotly figure, or HTML that stands as it is.
        caption: What to read in it, above the body.
    """

    title: str
    body: Figure | str
    caption: str = ""

    def html(self) -> str:
        """Returns the part as HTML; title and caption are escaped."""
        body = self.body if isinstance(self.body, str) else figure_html(self.body)
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        return f"<h2>{escape(self.title)}</h2>\n<figure>{caption}{body}</figure>"


def figure_html(figure: Figure) -> str:
    """Returns a figure as HTML that takes the colours of the page; plotly.js comes with the page."""
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        auto_play=False,
        config={"displaylogo": False, "responsive": True},
        post_script=_FOLLOW_THEME,
    )


def page_html(title: str, parts: Sequence[str], *, figures: bool, refresh: int | None = None) -> str:
    """Returns a page; what was chosen in its linked views stays when it is loaded again.

    Args:
        title: Headline.
        parts: What stands below it, as HTML.
        figures: Whether there are figures in it, so that the page needs plotly.js, once.
        refresh: Seconds after which an open page loads itself again.
    """
    again = f'<meta http-equiv="refresh" content="{refresh}">' if refresh else ""
    keep = f"<script>{_KEEP}</script>" if any("<iframe" in part for part in parts) else ""
    library = ""
    if figures:
        from plotly.offline import get_plotlyjs

        library = f"<script>{get_plotlyjs()}</script>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{again}<title>{escape(title)}</title><style>{_STYLE}</style>{keep}{library}</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def figures_page(title: str, sections: Sequence[Section], *, intro: str = "", refresh: int | None = None) -> str:
    """Writes sections one below the other as one HTML page with plotly.js inside, so that it opens without a network.

    Args:
        title: Headline.
        sections: The parts.
        intro: A sentence below the headline.
        refresh: Seconds after which an open page loads itself again; never for ``None``.

    Returns:
        The page. Titles, captions and intro are escaped.

    Raises:
        ValueError: If there are no sections.
    """
    if len(sections) == 0:
        raise ValueError("'sections' needs at least one part (got none)")
    head = [f'<p class="soft">{escape(intro)}</p>'] if intro else []
    parts = [*head, *(section.html() for section in sections)]
    return page_html(
        title, parts, figures=any(not isinstance(section.body, str) for section in sections), refresh=refresh
    )
