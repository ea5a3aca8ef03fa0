"""What the configurations of this package share: their saved folders, and the check of their counts."""

from __future__ import annotations

from os import PathLike
from typing import Any, ClassVar

from transformers import PreTrainedConfig

from tmt_geo.models.hub_files import auto_map, write_code
from tmt_geo.ops.checks import check_flags, check_reals

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
        check_reals(**{name: getattr(self, name)})

    def check_flags(self) -> None:
        """Raise a `ValueError` that names the first option of True or False that is neither."""
        names = [name for name, kind in type(self).__annotations__.items() if kind == "bool"]
        check_flags(**{name: getattr(self, name) for name in names})

    def check_initial_range(self) -> None:
        """Raise a `ValueError` if the standard deviation of the weights is none."""
        self.check_number("initializer_range")
        if self.initializer_range < 0:
            raise ValueError(f"'initializer_range' must not be negative (got {self.initializer_range})")
