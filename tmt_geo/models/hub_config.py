"""What the configurations of this package share: their saved folders, and the check of their counts."""

from __future__ import annotations

import math
from numbers import Real
from os import PathLike
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from tmt_geo.models.hub_files import auto_map, write_code

# Beyond these no model was meant, and to build one would take all memory or all time.
LARGEST = 1 << 20
MOST = {
    "num_hidden_layers": 10_000, "vocab_size": 1 << 31, "max_position_embeddings": 1 << 31, "copy_memory": 1 << 31,
    "mesh_memory": 1 << 31,
}  # fmt: skip


class HubConfig(PreTrainedConfig):
    """A configuration whose saved folder finds this package: a subclass names its classes in `auto_classes`."""

    auto_classes: ClassVar[dict[str, str]] = {}

    def __post_init__(self, **kwargs: Any) -> None:
        for alias, name in self.attribute_map.items():
            value = getattr(self, name)
            if alias in kwargs and value not in (getattr(type(self), name), kwargs[alias]):
                raise ValueError(f"'{alias}' and '{name}' are one option (got {kwargs[alias]!r} and {value!r})")
        super().__post_init__(**kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Do nothing: a saved folder holds an import of the class, not a copy of its code."""

    def save_pretrained(self, save_directory: str | PathLike, push_to_hub: bool = False, **kwargs: Any) -> None:
        """Save the configuration, and beside it the code with which ``Auto`` classes find this package.

        Args:
            save_directory (str or PathLike): The folder.
            push_to_hub (bool): Upload it as well.
            **kwargs: Of ``PreTrainedConfig.save_pretrained``.
        """
        self.auto_map = auto_map(self.auto_classes)
        super().save_pretrained(save_directory, push_to_hub, **kwargs)
        write_code(save_directory)

    def check_count(self, name: str, least: int) -> None:
        """Raise a `ValueError` if the value of this name is no integer, or none that there can be."""
        value = getattr(self, name)
        if not isinstance(value, int) or value < least:
            raise ValueError(f"'{name}' must be an integer of at least {least} (got {value!r})")
        if value > (most := MOST.get(name, LARGEST)):
            raise ValueError(f"'{name}' must be an integer of at most {most} (got {value!r})")

    def check_number(self, name: str) -> None:
        """Raise a `ValueError` if the value of this name is no finite number."""
        value = getattr(self, name)
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(f"'{name}' must be a finite number (got {value!r})")
