"""Which settings are accepted although their feature comes in a later version."""

from collections.abc import Iterator

from pydantic import BaseModel

from homelab_ai.settings.tree import Settings
from homelab_ai.settings.values import Mark, model_within


def is_reserved(part: type[BaseModel], name: str) -> bool:
    """Whether the feature of this setting comes in a later version."""
    return Mark.RESERVED in part.model_fields[name].metadata


def reserved_in_use(settings: Settings) -> list[str]:
    """Name the settings that differ from their default although their feature comes in a later version.

    They are written as in messages, such as ``models.text_embedding[0].prompts``, in the order of the tree.
    """
    return list(_reserved_in_use(settings, "", inherited=False))


def _reserved_in_use(part: BaseModel, prefix: str, *, inherited: bool) -> Iterator[str]:
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        reserved = inherited or Mark.RESERVED in field.metadata
        if isinstance(value, BaseModel):
            yield from _reserved_in_use(value, f"{prefix}{name}.", inherited=reserved)
        elif model_within(field.annotation):
            for index, entry in enumerate(value):
                yield from _reserved_in_use(entry, f"{prefix}{name}[{index}].", inherited=reserved)
        elif reserved and value != field.get_default(call_default_factory=True):
            yield f"{prefix}{name}"
