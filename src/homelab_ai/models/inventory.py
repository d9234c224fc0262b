"""Which models are on offer: those of the configuration, and what was changed at run time, laid over it.

`config.yaml` is the operator's and is never written. What is added, changed or removed over HTTP is kept in `state.db`,
one record a model: an added model with all its settings, or what differs of one that the configuration declares. So an
edit of the configuration takes effect wherever nothing was changed at run time, and where the two come to use the same
name, the configuration wins.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from homelab_ai.errors import Conflict, InvalidRequest, ResourceExhausted
from homelab_ai.models.catalogue import KINDS, Catalogue, Kind, Model
from homelab_ai.models.files import places
from homelab_ai.settings import ImageCaptionModel, ModelsSettings, Settings, TextEmbeddingModel
from homelab_ai.state import State, StateError, StoredModel

log = logging.getLogger(__name__)

Entry = TextEmbeddingModel | ImageCaptionModel
Records = Mapping[str, StoredModel]
"""What was changed, by id in lower case."""

ENTRY_TYPES: dict[str, type[TextEmbeddingModel] | type[ImageCaptionModel]] = {
    "image_caption": ImageCaptionModel,
    "text_embedding": TextEmbeddingModel,
}


class Inventory:
    """The models on offer, and the way to change them. Every method but `placed` is quick and the event loop's."""

    def __init__(self, settings: Settings, state: State | None) -> None:
        self._models_dir = settings.models_dir.absolute()
        self._roots = [root.absolute() for root in (settings.models_dir, *settings.resources.local_model_roots)]
        self._state = state
        self._records: Records = {record.id.casefold(): record for record in (state.models() if state else [])}
        self.catalogue: Catalogue
        """What requests choose from. Another one after each change."""
        self.follow(settings.models)

    def follow(self, configured: ModelsSettings) -> None:
        """Take the models of this configuration in the place of those of the last one."""
        self._configured = configured
        offered, problems = _laid_over(configured, self._records)
        for problem in problems:
            log.warning("%s", problem)
        self.catalogue = Catalogue(offered)

    def placed(self, hf_model: str) -> str:
        """Return what to keep as the `hf_model` of an added model: a name on the hub, or a folder without links.

        Looks at folders, so it may take long where they are on another machine. Raises `InvalidRequest`. Whoever adds
        a model over HTTP has no folder read, and learns of none, but those that the operator named for it.
        """
        by_name = not places.must_be_a_folder(hf_model) and places.is_hub_name(hf_model)
        try:
            if by_name:
                folder = places.placed(hf_model, self._models_dir)
            else:
                folder = (self._models_dir / Path(hf_model).expanduser()).resolve()
            roots = [root.resolve() for root in self._roots]
            allowed = not folder or any(folder.is_relative_to(root) for root in roots)
        except (OSError, RuntimeError):  # links in a circle, no such home, a name that is too long
            folder, allowed = None, False
        if not allowed:
            raise InvalidRequest.at(
                "hf_model",
                "is not in a folder from which models may be added: the models folder (models_dir), and those that the "
                "operator lists in resources.local_model_roots",
            )
        if not folder:
            return hf_model
        if any(folder.is_relative_to(download.resolve()) for download in self._models_dir.glob("models--*")):
            raise InvalidRequest.at("hf_model", "is a part of a download; name that as the hub does: organisation/name")
        if not places.is_model(folder):
            raise InvalidRequest.at(
                "hf_model",
                f"names {places.why_no_model(folder)}"
                if places.must_be_a_folder(hf_model)
                else "is neither a name on the hub (organisation/name) nor the whole path of a folder",
            )
        placed_by_name = by_name and folder == (self._models_dir / hf_model).resolve()
        return hf_model if placed_by_name else str(folder)

    def add(self, kind: Kind, entry: Entry) -> Model:
        """Offer one model more. Raises `Conflict` when a name is taken, or `ResourceExhausted` as all changes do."""
        taken = {name.casefold(): model.id for model in self.catalogue for name in model.ranks[0]}
        for field, name in [("id", entry.id), *(("aliases", alias) for alias in entry.aliases)]:
            if name.casefold() in taken:
                raise Conflict(
                    f"{field}: a model is called {name!r} already; take another name, or remove that one first",
                    details={"field": field, "model_id": taken[name.casefold()]},
                )
        declared = self._declared(entry.id)
        records = self._without_default(kind) if entry.default else dict(self._records)
        records.pop(entry.id.casefold(), None)
        if declared != entry:
            settings = entry.model_dump(mode="json", exclude_defaults=True)
            record = StoredModel(entry.id, kind, settings, added=True, hidden=declared is not None)
            records[entry.id.casefold()] = record
        self._keep(records)
        return self.catalogue.get(entry.id)

    def change(self, model: Model, changes: Mapping[str, Any]) -> Model:
        """Change some settings of a model. Raises `InvalidRequest`, or `ResourceExhausted` as all changes do."""
        enabled = changes.get("enabled", model.settings.enabled)
        if changes.get("default") and not enabled:
            raise InvalidRequest.at("default", "a disabled model cannot be the default; enable it as well")
        records = self._without_default(model.kind) if changes.get("default") else dict(self._records)
        key, declared = model.id.casefold(), self._declared(model.id)
        record = records.get(key, StoredModel(model.id, model.kind))
        if record.added and declared and not record.hidden:  # the configuration has the name now, so it is left out
            record = StoredModel(model.id, model.kind)
        settings = {**record.settings, **changes}
        if not enabled:  # another one is the default then, and stays it
            settings.pop("default", None)
        if not record.added and declared:
            settings = {name: value for name, value in settings.items() if getattr(declared, name) != value}
        if settings:
            records[key] = replace(record, settings=settings)
        else:
            records.pop(key, None)
        self._keep(records)
        return self.catalogue.get(model.id)

    def remove(self, model: Model) -> None:
        """Offer the model no longer: for good, or as long as the configuration alone offers it."""
        records = dict(self._records)
        records.pop(model.id.casefold(), None)
        if self._declared(model.id):
            records[model.id.casefold()] = StoredModel(model.id, model.kind, hidden=True)
        self._keep(records)

    def _declared(self, model_id: str) -> Entry | None:
        """What the configuration says of the model, offered or not."""
        entries = [entry for kind in KINDS for entry in getattr(self._configured, kind)]
        return next((entry for entry in entries if entry.id.casefold() == model_id.casefold()), None)

    def _without_default(self, kind: Kind) -> dict[str, StoredModel]:
        """The records, none of which says that its model is the default one."""
        records = {}
        for key, record in self._records.items():
            if record.kind == kind and record.settings.get("default"):
                settings = {name: value for name, value in record.settings.items() if name != "default"}
                if settings:
                    records[key] = replace(record, settings=settings)
            else:
                records[key] = record
        return records

    def _keep(self, records: Records) -> None:
        offered, _ = _laid_over(self._configured, records)
        if self._state:
            try:  # before anything is changed: what is answered to be done must be there after a restart
                self._state.store_models(records.values())
            except StateError as error:
                raise ResourceExhausted(f"Nothing was changed, because it could not be kept. {error}") from error
        self._records, self.catalogue = records, Catalogue(offered)


def _laid_over(configured: ModelsSettings, records: Records) -> tuple[ModelsSettings, list[str]]:
    """Return the models on offer, and in words what of the records could not be used."""
    offered: dict[str, list[Entry]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        for entry in getattr(configured, kind):
            record = records.get(entry.id.casefold())
            if not (record and record.hidden):
                changed = record.settings if record and not record.added else {}
                if not changed.get("enabled", True):
                    changed = {**changed, "default": False}
                offered[kind].append(entry.model_copy(update=dict(changed)))
    problems, left_out = [], set()
    for record in [record for record in records.values() if record.added]:
        taken = {name for entries in offered.values() for entry in entries for name in _names(entry)}
        try:
            entry = ENTRY_TYPES[record.kind].model_validate(record.settings)
        except (KeyError, ValidationError):
            problems.append(f"model {record.id}, added at run time, is left out: this version cannot read its settings")
            left_out.add(record.id)
            continue
        if clash := taken & set(_names(entry)):
            names = ", ".join(sorted(clash))
            problems.append(f"model {record.id}, added at run time, is left out: the configuration uses {names} now")
            left_out.add(record.id)
        else:
            offered[record.kind].append(entry)
    for record in records.values():
        if record.settings.get("default") and record.id not in left_out:
            offered[record.kind] = _led_by(record.id, offered[record.kind])
    return ModelsSettings.model_construct(None, **{kind: tuple(each) for kind, each in offered.items()}), problems


def _names(entry: Entry) -> list[str]:
    return [name.casefold() for name in (entry.id, *entry.aliases)]


def _led_by(model_id: str, entries: list[Entry]) -> list[Entry]:
    """The entries with that one as their default, whatever the configuration says; as they are if it cannot be."""
    if not any(entry.id == model_id and entry.enabled for entry in entries):
        return entries
    return [entry.model_copy(update={"default": entry.id == model_id}) for entry in entries]
