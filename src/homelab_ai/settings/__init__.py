"""Everything an operator can set: one frozen `tree`, and the `loading` of config.yaml and the environment into it."""

from homelab_ai.settings.loading import ConfigurationError, load_settings
from homelab_ai.settings.models import ImageCaptionModel, ModelsSettings, TextEmbeddingModel
from homelab_ai.settings.reserved import is_reserved, reserved_in_use
from homelab_ai.settings.security import ApiKeySettings, SecuritySettings
from homelab_ai.settings.source import Source
from homelab_ai.settings.tree import BatchingSettings, CrawlSettings, ResourcesSettings, Settings
from homelab_ai.settings.values import ALL_BUT_ADMIN, KeepAlive

__all__ = [
    "ALL_BUT_ADMIN",
    "ApiKeySettings",
    "BatchingSettings",
    "ConfigurationError",
    "CrawlSettings",
    "ImageCaptionModel",
    "KeepAlive",
    "ModelsSettings",
    "ResourcesSettings",
    "SecuritySettings",
    "Settings",
    "Source",
    "TextEmbeddingModel",
    "is_reserved",
    "load_settings",
    "reserved_in_use",
]
