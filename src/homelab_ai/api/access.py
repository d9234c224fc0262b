"""Who may enter: the address must be allowed, and then a key be valid or the address have an identity of its own.

A middleware, so that a request which may not enter is refused before its body is read, and so that a new route is
closed until someone decides otherwise. What a caller may do once inside is each route's own `needs(scope)`.
"""

from fastapi import Depends, params
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from homelab_ai.api.client import Client, client_of
from homelab_ai.api.context import context_of
from homelab_ai.api.keys import ALL_SCOPES, Identity, KeyRing
from homelab_ai.errors import Forbidden, Unauthorized
from homelab_ai.models.catalogue import Model
from homelab_ai.settings import Settings

PROBES = {"/health", "/ready"}
"""Open to everyone: an orchestrator has neither a key nor a listed address."""

PUBLIC = {"/docs", "/openapi.json"}
"""Need no key: they tell what is in the source, and a browser cannot send a key with an address that is typed in."""

_ANYONE = Identity("anyone", ALL_SCOPES)
_LOCALHOST = Identity("localhost", ALL_SCOPES)
_LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}


class Gate:
    """Decides who a request is from, by the settings and the keys."""

    def __init__(self, settings: Settings, keys: KeyRing) -> None:
        self._security = settings.security
        self._trusted_proxies = settings.server.trusted_proxies
        self._allowed_hosts = {host.lower() for host in settings.server.allowed_hosts}
        self._keys = keys

    def client(self, scope: Scope) -> Client:
        """Return where the request comes from."""
        return client_of(scope, self._trusted_proxies)

    def check_address(self, client: Client) -> None:
        """Raise `Forbidden` unless the address may connect at all."""
        allowlist = self._security.ip_allowlist
        if allowlist and not client.is_in(allowlist):
            raise Forbidden(
                f"Address {client} is not in security.ip_allowlist (behind a proxy, list that proxy in "
                "server.trusted_proxies)"
            )

    def identify(self, client: Client, headers: Headers) -> Identity:
        """Return who is asking. Raises `Unauthorized`, or `Forbidden` where a browser was sent by another site."""
        authorization = headers.get("Authorization")
        if authorization is not None:
            scheme, _, key = authorization.partition(" ")
            identity = self._keys.identify(key.strip().encode("latin-1")) if scheme.lower() == "bearer" else None
            if identity:
                return identity
            if self._security.auth_enabled:
                known = "is not valid" if scheme.lower() == "bearer" else "cannot be read: the word `Bearer` is missing"
                raise Unauthorized(f"The API key {known}; send `Authorization: Bearer <api-key>`")
        identity = self._identity_without_key(client, headers)
        if not identity:
            raise Unauthorized("An API key is needed: send it as `Authorization: Bearer <api-key>`")
        self._check_not_driven_by_another_site(headers)
        return identity

    def _identity_without_key(self, client: Client, headers: Headers) -> Identity | None:
        if not self._security.auth_enabled:
            return _ANYONE
        if (
            self._security.allow_localhost
            and client.direct_from_loopback
            and _host_name(headers.get("Host", "")) in _LOOPBACK_HOSTS
        ):
            return _LOCALHOST
        for network in self._security.networks:
            if client.is_in([network.cidr]):
                return Identity(network.name, frozenset(network.scopes))
        return None

    def _check_not_driven_by_another_site(self, headers: Headers) -> None:
        """Keep out a page from elsewhere that uses its visitor's place in the network, as it has no key to show.

        Host tells of a name that was made to point here (DNS rebinding), Origin and Sec-Fetch-Site of a page that
        sends requests to another site than its own (https://www.w3.org/TR/fetch-metadata/).
        """
        host = _host_name(headers.get("Host", ""))
        if host not in self._allowed_hosts:
            raise Forbidden(
                f"Without a key this service is not called {host[:100]!r}; add the name to server.allowed_hosts, or "
                "send a key"
            )
        origin = headers.get("Origin")
        if headers.get("Sec-Fetch-Site") == "cross-site" or (
            origin is not None and _host_name(origin.partition("://")[2]) not in self._allowed_hosts
        ):
            raise Forbidden("A web page of another site may not use this service without a key")


class AccessMiddleware:
    """Lets a request in or refuses it, before its body is read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "websocket":  # no route takes one
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        gate: Gate = scope["state"]["gate"]
        context, headers = context_of(scope), Headers(scope=scope)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        client = gate.client(scope)
        context.client = str(client)
        if path not in PROBES:
            gate.check_address(client)
            if path not in PUBLIC and not path.startswith("/docs/"):
                context.identity = gate.identify(client, headers)
        await self._app(scope, receive, send)


def needs(scope: str) -> params.Depends:
    """Make the dependency of a route that only callers with this scope may use."""

    async def check(request: Request) -> None:
        identity = context_of(request.scope).identity
        if scope not in identity.scopes:
            raise Forbidden(
                f"{identity.name!r} may not do this, for which the scope {scope!r} is needed", details={"scope": scope}
            )

    dependency: params.Depends = Depends(check)
    return dependency


def use(request: Request, model: Model) -> None:
    """Take note of which model answers. Raises `Forbidden` where it is none of the caller's."""
    context = context_of(request.scope)
    context.model = model.id
    if not context.identity.may_use(model.id):
        raise Forbidden(f"{context.identity.name!r} may not use model {model.id!r}", details={"model_id": model.id})


def _host_name(host: str) -> str:
    """The name in a Host header or the authority of an origin, without its port, in lower case."""
    host = host.rpartition("@")[2].lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
