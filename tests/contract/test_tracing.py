"""Spans: none unless they are wanted, and then one for each request, without a word that a client sent."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient

from contract.answers import serving
from homelab_ai.app import create_app
from homelab_ai.settings import ConfigurationError, Settings
from homelab_ai.telemetry.tracing import TracingMiddleware
from support.answering import Handler, answering
from support.hosts import FakeHost, FakeHosts

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@contextmanager
def traced(settings: Settings, hosts: FakeHosts) -> Iterator[tuple[TestClient, InMemorySpanExporter]]:
    """The whole service, and where its spans go."""
    spans = InMemorySpanExporter()
    app = TracingMiddleware(create_app(settings, start_host=hosts), SimpleSpanProcessor(spans))
    with TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000)) as client:
        yield client, spans


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    spans.clear()
    return span


def test_a_request_is_a_span_by_the_conventions(settings: Settings, hosts: FakeHosts) -> None:
    with traced(settings, hosts) as (client, spans):
        client.post("/api/embed", json={"texts": ["a"]}, headers={"X-Request-ID": "one"})
        span = only(spans)
    assert (span.name, span.kind, span.status.status_code) == ("POST /api/embed", SpanKind.SERVER, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/api/embed",
        "homelab_ai.request_id": "one",
        "network.protocol.version": "1.1",
        "url.scheme": "http",
    }
    assert span.parent is None
    assert span.resource.attributes["service.name"] == "homelab-ai-api"


def test_the_callers_trace_goes_on(settings: Settings, hosts: FakeHosts) -> None:
    with traced(settings, hosts) as (client, spans):
        client.get("/health", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
        span = only(spans)
        assert span.context
        assert span.parent
        assert f"{span.context.trace_id:032x}" == TRACE
        assert f"{span.parent.span_id:016x}" == PARENT
        for wrong in ("nonsense", f"00-{TRACE}-{PARENT}", f"00-{'0' * 32}-{PARENT}-01", "x" * 10_000):
            client.get("/health", headers={"traceparent": wrong, "tracestate": wrong, "baggage": "a=b"})
            assert only(spans).parent is None


def test_a_fault_of_the_service_is_one_of_the_span_too(settings: Settings, hosts: FakeHosts) -> None:
    def fail(host: FakeHost) -> None:
        host.on_run = lambda texts: ZeroDivisionError(f"a secret: {texts}")

    hosts.prepare = fail
    with traced(settings, hosts) as (client, spans):
        assert client.post("/api/embed", json={"texts": ["a"]}).status_code == 500
        span = only(spans)
        assert client.post("/api/embed", json={}).status_code == 400
        assert only(spans).status.status_code is StatusCode.UNSET
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "500"
    assert span.events == ()


def test_nothing_that_a_client_sends_is_in_a_span(settings: Settings, hosts: FakeHosts) -> None:
    secret = "canary7f3a"
    with traced(settings, hosts) as (client, spans):
        headers = {"User-Agent": secret, "Authorization": f"Bearer {secret}", "Host": f"{secret}.lan", "Cookie": secret}
        for method, path in (
            ("GET", f"/{secret}?{secret}"),
            ("GET", f"/api/models/{secret}?{secret}={secret}"),
            ("POST", f"/api/embed?{secret}"),
            (secret.upper(), f"/api/models?{secret}"),
        ):
            for more in ({}, headers):
                client.request(method, path, json={"texts": [secret], "model": secret}, headers=more)
        finished = spans.get_finished_spans()
    assert len(finished) == 8
    names = {span.name for span in finished}
    assert names >= {"GET", "GET /api/models/{model_id:path}", "POST /api/embed", "POST"}
    assert not [span for span in finished if secret in span.to_json().lower()]


def test_what_is_asked_for_goes_to_the_collector_that_the_environment_names(
    settings: Settings, hosts: FakeHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[tuple[str, ExportTraceServiceRequest]] = []

    class Collector(Handler):
        def do_POST(self) -> None:
            received.append((self.path, ExportTraceServiceRequest.FromString(self.body())))
            self.answer(b"", "application/x-protobuf")

    with answering(Collector) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "kitchen")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with serving(settings, hosts, tracing={"enabled": True}) as client:
            client.get("/health")
            client.get("/ready")
    assert {path for path, _ in received} == {"/v1/traces"}
    resources = [resource for _, request in received for resource in request.resource_spans]
    names = {span.name for resource in resources for scope in resource.scope_spans for span in scope.spans}
    assert names == {"GET /health", "GET /ready"}
    attributes = {field.key: field.value.string_value for field in resources[0].resource.attributes}
    assert attributes["service.name"] == "kitchen"


def test_fastapi_tells_nothing_by_itself(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with serving(settings) as client:
        client.get("/health")
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider), "nobody has made one for all"


def test_without_the_extra_the_start_is_refused_with_what_mends_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "homelab_ai.telemetry.tracing")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    wanted = Settings.model_validate({**settings.model_dump(), "tracing": {"enabled": True}})
    with pytest.raises(ConfigurationError, match=r"pip install .*\[tracing\]"):
        create_app(wanted)
    create_app(settings)
