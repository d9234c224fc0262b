"""The models on offer at one moment, and which of them a request means.

Names are looked up in this order: id, alias, hub name, last part of the hub name; capitals do not matter. A name may
be that of a model of another kind: the answer then says so, rather than that there is no such model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from homelab_ai.errors import InvalidRequest, ModelNotFound, ModelNotLoaded
from homelab_ai.settings import ImageCaptionModel, ModelsSettings, TextEmbeddingModel

Kind = Literal["text_embedding", "image_caption"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_DOES: dict[Kind, str] = {"text_embedding": "embeds text", "image_caption": "describes images"}


@dataclass(frozen=True)
class Model:
    """One model on offer."""

    kind: Kind
    settings: TextEmbeddingModel | ImageCaptionModel
    default: bool
    """Whether it answers requests of its kind that name no model."""

    @property
    def id(self) -> str:
        """The name that answers carry as `model_used`."""
        return self.settings.id

    @property
    def process(self) -> dict[str, Any]:
        """All of its settings that decide what its process is."""
        return self.settings.model_dump(exclude={"default", "enabled", "aliases", "keep_alive_minutes"})

    @property
    def ranks(self) -> list[list[str]]:
        """What it can be called, the strongest names first."""
        hub_name = self.settings.hf_model
        return [[self.id, *self.settings.aliases], [hub_name], [hub_name.rstrip("/").rpartition("/")[2]]]


class Catalogue:
    """The models on offer, in the order of the configuration. It never changes; another one takes its place."""

    def __init__(self, settings: ModelsSettings) -> None:
        models = [*_of_kind("image_caption", settings.image_caption)]
        models += _of_kind("text_embedding", settings.text_embedding)
        self._models = models
        self._names = _by_name(models)
        self._defaults = {model.kind: model for model in models if model.default}
        self._names_of_kind = {kind: _by_name([model for model in models if model.kind == kind]) for kind in _DOES}

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models)

    def get(self, name: str) -> Model:
        """Return the model of that name, of whatever kind, enabled or not. Raises `ModelNotFound`."""
        if model := self._names.get(name.casefold()):
            return model
        raise ModelNotFound(
            f"No model is called {name[:100]!r}",
            details={"model_id": name[:100], "available_models": [model.id for model in self]},
        )

    def named(self, name: str) -> Model:
        """Return the model with that id or alias, and no other: for what cannot be undone. Raises `ModelNotFound`."""
        model = self.get(name)
        if name.casefold() not in map(str.casefold, model.ranks[0]):
            raise ModelNotFound(
                f"No model has the id {name[:100]!r}; what is called so is {model.id!r}",
                details={"model_id": name[:100], "available_models": [other.id for other in self]},
            )
        return model

    def choose(self, name: str | None, kind: Kind) -> Model:
        """Return the enabled model that a request of this kind means; no name means the default one.

        Raises `ModelNotFound`, `ModelNotLoaded` for a disabled one, `InvalidRequest` for one of another kind.
        """
        names = self._names_of_kind[kind]
        model = self._defaults.get(kind) if name is None else names.get(name.casefold())
        if model and model.settings.enabled:
            return model
        available = [other.id for other in self if other.kind == kind and other.settings.enabled]
        details = {"model_id": name and name[:100], "available_models": available}
        if name is None:
            raise ModelNotFound(f"No enabled model {_DOES[kind]}", details=details)
        if model:
            raise ModelNotLoaded(
                f"Model {model.id!r} is disabled; set `enabled: true` in the configuration, or with PATCH "
                f"/api/models/{model.id}",
                details=details,
            )
        if other := self._names.get(name.casefold()):
            raise InvalidRequest.at(
                "model", f"{other.id!r} {_DOES[other.kind]}; use one that {_DOES[kind]}: {', '.join(available)}"
            )
        raise ModelNotFound(f"No model that {_DOES[kind]} is called {name[:100]!r}", details=details)


def _by_name(models: Sequence[Model]) -> dict[str, Model]:
    """Ids and aliases are unique. Two entries may share a hub name: an enabled one is meant, and the first of those."""
    weakest_first = sorted(reversed(models), key=lambda model: model.settings.enabled)  # noqa: C414 - sorting is stable
    return {
        name.casefold(): model for rank in reversed(range(3)) for model in weakest_first for name in model.ranks[rank]
    }


def _of_kind(kind: Kind, settings: Sequence[TextEmbeddingModel | ImageCaptionModel]) -> Iterator[Model]:
    enabled = [entry for entry in settings if entry.enabled]
    chosen = next((entry for entry in enabled if entry.default), enabled[0] if enabled else None)
    return (Model(kind, entry, default=entry is chosen) for entry in settings)
