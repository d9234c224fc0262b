"""Who may enter, and how often: the address must be allowed, then a key be valid or the address have an identity of its
own, and then its limit not be used up.

A middleware, so that a request which may not enter is refused before its body is read, and so that a new route is
closed until someone decides otherwise. What a caller may do once inside is each route's own `needs(scope)`.
"""  # noqa: D205 - one sentence

import base64
import binascii
import logging
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Depends, params
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from homelab_ai.api.client import Client, client_of
from homelab_ai.api.context import context_of
from homelab_ai.api.counting import Counter, Quota
from homelab_ai.api.failures import Failures
from homelab_ai.api.keys import ALL_SCOPES, Identity, KeyRing
from homelab_ai.api.pages import check_page, host_of
from homelab_ai.errors import Forbidden, NotFound, RateLimitExceeded, Unauthorized
from homelab_ai.models.catalogue import Model
from homelab_ai.settings import Settings

log = logging.getLogger(__name__)

PROBES = {"/health", "/ready"}
"""Open to everyone: an orchestrator has neither a key nor a listed address."""

PUBLIC = {"/", "/admin", "/docs", "/openapi.json"}
"""Need no key: they tell what is in the source, and a browser cannot send a key with an address that is typed in."""

_PUBLIC_BELOW = ("/admin/", "/docs/")
"""So does all that belongs to those pages."""

_OF_PAGES = {"X-Frame-Options": "DENY"}
"""What is said with them: a page of another site that shows ours within itself could lead its visitor's clicks there,
and then it is our own page that asks."""

_LONGEST_PATH = 2048
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")

UNCOUNTED = {"/metrics"}
"""Not counted: what a monitoring asks all the time, and must not miss when it matters."""

_ANYONE = Identity("anyone", ALL_SCOPES, authenticated_by="nobody")
_LOCALHOST = Identity("localhost", ALL_SCOPES, authenticated_by="localhost")
_LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}


class Gate:
    """Decides who a request is from, by the settings and the keys, and counts it."""

    def __init__(self, settings: Settings, keys: KeyRing) -> None:
        """Raise `CounterUnavailableError` where requests cannot be counted as the settings want it."""
        self.keys = keys
        self._failures = Failures()
        self._former_counters: list[Counter] = []
        self._take(settings, Counter(settings.security.rate_limit_url))

    def follow(self, settings: Settings) -> None:
        """Go by these settings from the next request on, the keys of the configuration included.

        Raises `CounterUnavailableError`, and has changed nothing then.
        """
        counter = self._counter
        if settings.security.rate_limit_url != self._security.rate_limit_url:
            counter = Counter(settings.security.rate_limit_url)
            self._former_counters.append(self._counter)  # requests may be waiting for it
        if self._security.ip_allowlist and not settings.security.ip_allowlist:
            log.warning("security.ip_allowlist is empty now: any address may connect")
        self.keys.follow(settings.security)
        self._take(settings, counter)
        if settings.security.auth_enabled and not self.keys.entries():
            log.warning(
                "there is no API key any more: add one to the configuration, or stop the service and make one with "
                "`homelab-ai key add NAME --data-dir DIR`"
            )

    def _take(self, settings: Settings, counter: Counter) -> None:
        self._security = settings.security
        self._trusted_proxies = settings.server.trusted_proxies
        self._allowed_hosts = {host.lower() for host in settings.server.allowed_hosts}
        self._counter = counter

    async def close(self) -> None:
        """Close the connections of the counters."""
        for counter in (*self._former_counters, self._counter):
            await counter.close()

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

    async def admit(self, client: Client, headers: Headers) -> Identity:
        """Return who is asking, as `identify` does, and raise `RateLimitExceeded` after too many wrong keys."""
        authorization = headers.get("Authorization")
        if len(headers.getlist("Authorization")) > 1:
            raise Unauthorized("There is more than one Authorization header; send one")
        if authorization is None or not self._security.auth_enabled:
            return self.identify(client, headers)
        address, key = client.counted_as, _key_in(authorization) or b""
        await self._failures.check(address, key)
        try:
            identity = self.identify(client, headers)
        except Unauthorized:
            await self._failures.note_wrong(address, key)
            raise
        self._failures.note_right(address, key)
        return identity

    def identify(self, client: Client, headers: Headers) -> Identity:
        """Return who is asking. Raises `Unauthorized`, or `Forbidden` where a browser was sent by another site."""
        authorization = headers.get("Authorization")
        if authorization is not None:
            key = _key_in(authorization)
            identity = self.keys.identify(key) if key else None
            if identity:
                if authorization[:5].lower() == "basic":  # a browser adds it by itself, once it has been typed in
                    check_page(headers, {*self._allowed_hosts, host_of(headers)})
                return identity
            if self._security.auth_enabled:
                known = "cannot be read" if key is None else "is not valid"
                raise Unauthorized(f"The API key {known}; send `Authorization: Bearer <api-key>`")
        identity = self._identity_without_key(client, headers)
        if not identity:
            raise Unauthorized("An API key is needed: send it as `Authorization: Bearer <api-key>`")
        self._check_not_driven_by_another_site(headers)
        return identity

    def recognize(self, scope: Scope) -> Identity:
        """Return who is asking in a request that was let in a while ago, by what holds now. Counts nothing.

        Raises `Unauthorized` or `Forbidden` where it would not be let in any more.
        """
        client = self.client(scope)
        self.check_address(client)
        return self.identify(client, Headers(scope=scope))

    async def count(self, identity: Identity, client: Client) -> Quota | None:
        """Count a request of theirs and return what is left, or `None` where there is no limit."""
        rate_limit = identity.rate_limit or self._security.rate_limit
        if not rate_limit:
            return None
        name = ("address", client.counted_as) if identity.per_address else ("key", identity.name)
        return await self._counter.hit(rate_limit, *name)

    def _identity_without_key(self, client: Client, headers: Headers) -> Identity | None:
        if not self._security.auth_enabled:
            return _ANYONE
        if self._security.allow_localhost and client.direct_from_loopback and host_of(headers) in _LOOPBACK_HOSTS:
            return _LOCALHOST
        for network in self._security.networks:
            if client.is_in([network.cidr]):
                return Identity(network.name, frozenset(network.scopes), authenticated_by="network")
        return None

    def _check_not_driven_by_another_site(self, headers: Headers) -> None:
        """Keep out a page from elsewhere that uses its visitor's place in the network, as it has no key to show."""
        host = host_of(headers)
        if host not in self._allowed_hosts:
            raise Forbidden(
                f"Without a key this service is not called {host[:100]!r}; add the name to server.allowed_hosts, or "
                "send a key"
            )
        check_page(headers, self._allowed_hosts)


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
        if len(path) > _LONGEST_PATH or _CONTROLS.search(path):  # a router would pass over a line feed at its end
            raise NotFound("Nothing is served at such a path; /docs lists what is")
        if path not in PROBES:
            gate.check_address(client)
            if path in PUBLIC or path.startswith(_PUBLIC_BELOW):
                context.headers = _OF_PAGES
            else:
                context.identity = await gate.admit(client, headers)
                if path not in UNCOUNTED and (quota := await gate.count(context.identity, client)):
                    context.headers = quota.headers
                    _check_quota(quota)
        await self._app(scope, receive, send)


class Needs:
    """What a route asks of its callers: this scope."""

    def __init__(self, scope: str) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> None:
        """Raise `Forbidden` where the caller has not the scope."""
        check_scope(request, self.scope)


class ScopedRoute(APIRoute):
    """A route that looks at what its caller may do before it reads the body, which FastAPI by itself does first."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's handler."""
        handler = self.handler_of_checked()
        needed = [each.dependency for each in self.dependencies if isinstance(each.dependency, Needs)]

        async def check_then_handle(request: Request) -> Response:
            for need in needed:
                await need(request)
            return await handler(request)

        return check_then_handle

    def handler_of_checked(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what handles the requests of those who may make them."""
        return super().get_route_handler()


def needs(scope: str) -> params.Depends:
    """Make the dependency of a route that only callers with this scope may use."""
    dependency: params.Depends = Depends(Needs(scope))
    return dependency


def check_scope(request: Request, scope: str, to_do: str = "do this") -> None:
    """Raise `Forbidden` where the caller has not the scope: for what a route does for some of its requests only."""
    identity = context_of(request.scope).identity
    if scope not in identity.scopes:
        raise Forbidden(
            f"{identity.name!r} may not {to_do}, for which the scope {scope!r} is needed", details={"scope": scope}
        )


def use(request: Request, model: Model) -> None:
    """Take note of which model answers. Raises `Forbidden` where it is none of the caller's."""
    context = context_of(request.scope)
    context.model = model.id
    if not context.identity.may_use(model.id):
        raise Forbidden(f"{context.identity.name!r} may not use model {model.id!r}", details={"model_id": model.id})


def _check_quota(quota: Quota) -> None:
    if not quota.allowed:
        raise RateLimitExceeded(
            f"No more than {quota.rate_limit} are allowed (security.rate_limit, or the key's own rate_limit); the next "
            f"one is let in after {quota.reset_seconds} s",
            details={"rate_limit": quota.rate_limit, "retry_after_seconds": quota.reset_seconds},
            retry_after_seconds=quota.reset_seconds,
        )


def _key_in(authorization: str) -> bytes | None:
    """The key that the header brings, as a token or as the password of any user; `None` where it cannot be read."""
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials.encode("latin-1")
    if scheme.lower() == "basic":
        try:
            _, colon, password = base64.b64decode(credentials.encode("latin-1"), validate=True).partition(b":")
        except binascii.Error:
            return None
        return password if colon else None
    return None
