"""Which route a request is counted for, whether it came that far or was refused on its way."""

import re

from fastapi.routing import iter_route_contexts
from starlette.types import Scope

Templates = list[tuple[re.Pattern[str], str]]

OTHER = "other"
"""All paths where nothing is served: a stranger must not be able to make up names."""


class Endpoints:
    """The templates of an application's routes. They are looked up when first needed: then all are there."""

    def __init__(self) -> None:
        self._templates: Templates = []

    def of(self, scope: Scope) -> str:
        """Return the template of the route that a path belongs to, whatever its method, or `OTHER`."""
        if found := getattr(scope.get("route"), "path", None):
            return str(found)
        if not self._templates:
            contexts = iter_route_contexts(scope["app"].routes)
            self._templates = [(each.path_regex, each.path) for each in contexts if each.path]
        path = scope["path"].removeprefix(scope.get("app_root_path", scope.get("root_path", "")))
        return next((template for regex, template in self._templates if regex.fullmatch(path)), OTHER)
