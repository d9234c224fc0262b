"""Spans of OpenTelemetry: one for each request, continuing the caller's trace. Imported only where they are wanted.

Where they go, and all else that OpenTelemetry lets one set, is for its own environment variables to say
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/); without them, to a collector on
this machine. Names and attributes are those of the conventions for HTTP servers
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/), but for paths, queries, headers and addresses of
clients: a span holds nothing that a user sent. (FastAPI's own spans would, so `app` turns those off.)
"""

import asyncio
import os
import threading
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from homelab_ai.telemetry.logs import current_request_id

_METHODS = {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
_FAULT = 500
_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES"
_LAST_SECONDS = 2
"""How long the end of the service waits for its last spans to be sent."""
_PROPAGATOR = TraceContextTextMapPropagator()  # and no baggage: it is for nobody here


class TracingMiddleware:
    """Makes a span of each request."""

    def __init__(self, app: ASGIApp, processor: SpanProcessor | None = None) -> None:
        """`processor` takes the finished spans; without one they are sent in batches, by a thread of their own."""
        self._app = app
        about = {"service.version": version("homelab-ai-api")}
        if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get(_ATTRIBUTES, ""):
            about["service.name"] = "homelab-ai-api"  # what is given here would win over both
        resource = Resource.create(about)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("homelab_ai")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "lifespan":
            try:
                await self._app(scope, receive, send)
            finally:
                await self._send_what_is_left()
        elif scope["type"] == "http":
            await self._traced(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _send_what_is_left(self) -> None:
        # A collector that is not there would be tried for ten seconds more. Nothing waits for a daemon thread.
        ending = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, _LAST_SECONDS)

    async def _traced(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        headers = Headers(scope=scope)
        carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        attributes = {
            "http.request.method": method,
            "network.protocol.version": scope["http_version"],
            "url.scheme": scope["scheme"],
        }
        with self._tracer.start_as_current_span(
            method,
            context=_PROPAGATOR.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,  # its text may quote what was sent
            set_status_on_exception=False,
        ) as span:

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _note_answer(span, message)
                await send(message)

            try:
                await self._app(scope, receive, send_traced)
            finally:
                span.set_attribute("homelab_ai.request_id", current_request_id.get())
                if route := getattr(scope.get("route"), "path", None):
                    span.update_name(f"{'HTTP' if method == '_OTHER' else method} {route}")
                    span.set_attribute("http.route", route)


def _note_answer(span: Span, message: Message) -> None:
    status = message["status"]
    span.set_attribute("http.response.status_code", status)
    if status >= _FAULT:
        span.set_status(StatusCode.ERROR)
        span.set_attribute("error.type", str(status))
