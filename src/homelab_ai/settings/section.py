"""What all parts of the tree of settings share."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Frozen(BaseModel):
    """What all parts of the tree share: no unknown names, no silent conversions, no change after the start."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class Section(Frozen):
    """A part that stands in the file under a name of its own."""

    @model_validator(mode="before")
    @classmethod
    def _nothing_means_the_defaults(cls, data: Any) -> Any:
        # `server:` is read as null when all the lines below it are commented out.
        return {} if data is None else data
