"""The models on offer, as the configuration declares them: a part of the `tree`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from homelab_ai.settings.section import Frozen, Section
from homelab_ai.settings.values import (
    Alias,
    AnyText,
    Count,
    Device,
    KeepAlive,
    Many,
    Mark,
    ModelId,
    Place,
    Precision,
    Switch,
    Text,
    expecting,
    refuse,
    repeated,
    spell,
)


class ModelEntry(Frozen):
    """One model that the service offers, whatever its type."""

    id: ModelId = Field(description="Name by which requests choose the model, and which answers give back.")
    hf_model: Text = Field(description="Its name on huggingface.co, or the path of a folder that holds it.")
    enabled: Switch = Field(default=True, description="Whether requests may use it.")
    default: Switch = Field(
        default=False, description="Whether it answers requests that name no model. At most one of each type."
    )
    revision: Text | None = Field(
        default=None, description="Commit, tag or branch on huggingface.co to stay with. null follows the main branch."
    )
    aliases: Many[Alias] = Field(
        default=(), description="Other names that requests may use, such as the name that a program insists on."
    )
    device: Device = Field(
        default="auto", description="auto (what resources.device says), cpu, cuda, cuda:0 (that one GPU) or mps."
    )
    precision: Precision = Field(
        default="auto",
        description="Number format of the calculation: auto, float32 (exact), bfloat16 or float16 (smaller, faster).",
    )
    keep_alive_minutes: KeepAlive | None = Field(
        default=None,
        description="Minutes without a request after which it is unloaded; 0 unloads it at once, -1 never. null "
        "takes resources.model_keep_alive_minutes.",
    )
    backend: Annotated[Literal["auto", "openvino", "torch"], expecting("auto, openvino or torch")] = Field(
        default="auto",
        description="Engine that runs it: auto (openvino on the CPU where the model can be exported to it, else "
        "torch), openvino (a model that cannot be exported is refused then) or torch.",
    )

    @model_validator(mode="after")
    def _default_is_enabled(self) -> Self:
        if self.default and not self.enabled:
            refuse([(("default",), "a model that is the default must be enabled")])
        return self


class ImageCaptionModel(ModelEntry):
    """A model that describes images."""


class TextEmbeddingModel(ModelEntry):
    """A model that turns text into vectors."""

    dimensions: Count | None = Field(
        default=None,
        description="Length of its vectors. Checked against the model when it loads; null takes the model's word.",
    )
    max_length: Count | None = Field(
        default=None, description="Tokens of each text that are read; the rest is cut off. null: as the model says."
    )
    prompts: Annotated[dict[Text, AnyText], Mark.RESERVED] = Field(
        default_factory=dict,
        description='Text to put before the input, by purpose, such as {query: "query: ", document: "passage: "}.',
    )


class ModelsSettings(Section):
    """The models on offer, by type. A list in the file replaces the default list of that type only."""

    image_caption: Many[ImageCaptionModel] = Field(
        default=(
            ImageCaptionModel(
                id="blip-base", hf_model="Salesforce/blip-image-captioning-base", enabled=True, default=True
            ),
            ImageCaptionModel(id="llava", hf_model="llava-hf/llava-1.5-7b-hf", enabled=False),
        ),
        description="Models that describe images. [] offers none.",
    )
    text_embedding: Many[TextEmbeddingModel] = Field(
        default=(
            TextEmbeddingModel(
                id="minilm",
                hf_model="sentence-transformers/all-MiniLM-L6-v2",
                dimensions=384,
                enabled=True,
                default=True,
            ),
            TextEmbeddingModel(
                id="mpnet", hf_model="sentence-transformers/all-mpnet-base-v2", dimensions=768, enabled=False
            ),
        ),
        description="Models that turn text into vectors. [] offers none.",
    )

    @model_validator(mode="after")
    def _requests_can_tell_models_apart(self) -> Self:
        names: list[tuple[Place, object]] = []
        defaults: list[tuple[Place, object]] = []
        # Lists left at their defaults come first: a clash is then reported where the operator wrote something.
        for kind in sorted(type(self).model_fields, key=lambda kind: kind in self.model_fields_set):
            entry: ModelEntry
            for index, entry in enumerate(getattr(self, kind)):
                names.append(((kind, index, "id"), entry.id.lower()))
                names += [((kind, index, "aliases", n), alias.lower()) for n, alias in enumerate(entry.aliases)]
                defaults += [((kind, index, "default"), kind)] if entry.default else []
        refuse(
            [
                (place, f"the same name as models.{spell(first)}; they must all differ")
                for place, first in repeated(names)
            ]
            + [(place, f"models.{spell(first)} is true already") for place, first in repeated(defaults)]
        )
        return self
