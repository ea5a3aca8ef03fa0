"""Figures as files: one HTML page that opens offline, or an image for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tmt_geo.extras import needs_extra

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

IMAGES = (".png", ".svg", ".pdf", ".jpg", ".webp")
NO_BROWSER = "an image needs a Chrome or Chromium, which plotly_get_chrome installs (got none that works)"


def save_figure(
    figure: Figure, path: str | Path, *, width: int = 1000, height: int | None = None, scale: int = 2
) -> Path:
    """Writes a figure to a file, in the format of its suffix.

    Args:
        figure: Any plotly figure.
        path: A name that ends in ``.html``, which holds plotly.js and opens without a network, or in ``.png``,
            ``.svg``, ``.pdf``, ``.jpg`` or ``.webp``, which show the first frame.
        width: Width of an image, in pixels.
        height: Height of an image, in pixels. Default: the figure's own.
        scale: Dots a pixel of an image.

    Returns:
        The path.

    Raises:
        ImportError: If an image is wanted and kaleido is absent.
        RuntimeError: If kaleido finds no browser.
        ValueError: If the suffix is another.
    """
    path = Path(path)
    if path.suffix == ".html":
        figure.write_html(path, include_plotlyjs=True, auto_play=False, config={"displaylogo": False})
        return path
    if path.suffix not in IMAGES:
        raise ValueError(f"'path' must end in .html or one of {', '.join(IMAGES)} (got {path.name})")
    with needs_extra("an image", "figures"):
        import kaleido  # noqa: F401  plotly's own message names a version of each
    try:
        figure.write_image(path, width=width, height=height or figure.layout.height, scale=scale)
    except RuntimeError as error:
        raise RuntimeError(NO_BROWSER) from error
    return path
