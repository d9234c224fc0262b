"""Every setting in the order of the tree, for those that write them all down: `example` and `reference`."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from homelab_ai.settings.tree import Settings
from homelab_ai.settings.values import Mark, Place, model_within


class Setting(NamedTuple):
    """A setting, or a section of them, and what the tree says of it."""

    place: Place
    owner: type[BaseModel]
    """The part of the tree that has the field."""
    field: FieldInfo
    default: Any
    """None where there is no default, too: `field.is_required()` tells."""
    reserved: bool
    """Whether its feature comes in a later version."""

    @property
    def name(self) -> str:
        """The last step of its place."""
        return str(self.place[-1])

    @property
    def is_section(self) -> bool:
        """Whether it only holds other settings."""
        return isinstance(self.default, BaseModel)

    def of_entries(self) -> Iterator["Setting"]:
        """Yield what each entry of a list has; nothing where this is no list of entries."""
        entry = model_within(self.field.annotation)
        if entry is None or self.is_section:
            return
        for name, field in entry.model_fields.items():
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            yield Setting((*self.place, 0, name), entry, field, default, _reserved(field, within=self.reserved))


def walk(part: BaseModel | None = None, above: Place = (), *, reserved: bool = False) -> Iterator[Setting]:
    """Yield each section, followed by what is in it, and each setting, with their defaults."""
    part = part or Settings()
    for name, field in type(part).model_fields.items():
        inert = _reserved(field, within=reserved)
        setting = Setting((*above, name), type(part), field, getattr(part, name), inert)
        yield setting
        if setting.is_section:
            yield from walk(setting.default, setting.place, reserved=inert)


def _reserved(field: FieldInfo, *, within: bool) -> bool:
    return within or Mark.RESERVED in field.metadata
