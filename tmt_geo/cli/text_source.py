"""Which text a command reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from tmt_geo.cli.options import Data, DataConfig

if TYPE_CHECKING:
    from tmt_geo.data import TextSplits


@dataclass
class TextSource:
    """A text and how it is read.

    Args:
        data: Where it is.
        data_config: Configuration of a hub data set.
        text_column: Text column of a hub data set.
        streaming: Stream a hub data set; needs --limit.
        limit: Use at most this many documents a split.
    """

    data: Data = None
    data_config: DataConfig = None
    text_column: str = "text"
    streaming: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.data == "":
            raise ValueError("'data' must name a text (got '')")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"'limit' must be at least 1 (got {self.limit})")

    @property
    def name(self) -> str:
        """What it is called."""
        return self.data or "embedded"

    def load(self) -> TextSplits:
        """Reads the text."""
        from tmt_geo.data import load_text

        return load_text(
            self.name,
            config_name=self.data_config,
            text_column=self.text_column,
            streaming=self.streaming,
            limit=self.limit,
        )

    def or_that_of(self, settings: dict[str, Any]) -> TextSource:
        """Returns this text, or where none was named the one of a run's settings, up to a limit given here."""
        if self.data is not None:
            return self
        known = {name: settings[name] for name in asdict(self) if name in settings}
        return replace(TextSource(**known), limit=self.limit or known.get("limit"))
