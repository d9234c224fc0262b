"""`GET /metrics`: what Prometheus asks for."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from homelab_ai.api.access import needs
from homelab_ai.api.documents import errors
from homelab_ai.api.services import Services, services_of
from homelab_ai.models.residency import LOADED, Snapshot
from homelab_ai.telemetry.metrics import CONTENT_TYPE, GpuNow, ModelNow, Now

router = APIRouter(tags=["Monitoring"])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    dependencies=[needs("read")],
    response_class=Response,
    responses={
        200: {
            "content": {"text/plain": {"example": 'api_requests_total{endpoint="/api/embed",status="200"} 1027.0\n'}},
            "description": "The text format of Prometheus. docs/monitoring.md explains every metric.",
        },
        **errors(),
    },
)
async def metrics(request: Request) -> Response:
    """Show everything that is counted and timed, in the text format of Prometheus."""
    services = services_of(request.scope)
    with services["metrics"].requests.watching():
        text = services["metrics"].exposition(await _now(services))
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


async def _now(services: Services) -> Now:
    gpus, models = await services["gpus"].now(), services["models"]
    return Now(
        models=[_model_now(models.snapshot(model)) for model in models.catalogue],
        memory_used_bytes=models.used.memory_bytes,
        memory_budget_bytes=models.budget.memory_bytes,
        gpu_memory_budget_bytes=models.budget.gpu_memory_bytes,
        configuration_is_current=services["configuration"].is_current,
        configuration_loaded_at=services["configuration"].loaded_at,
        gpus=[GpuNow(gpu.memory_bytes, gpu.memory_used_bytes) for gpu in gpus],
    )


def _model_now(snapshot: Snapshot) -> ModelNow:
    return ModelNow(
        id=snapshot.model.id,
        loaded=int(snapshot.state in LOADED),
        active_requests=snapshot.active_requests,
        queued_requests=snapshot.queued_requests,
        memory_bytes=snapshot.footprint.memory_bytes,
        gpu_memory_bytes=snapshot.footprint.gpu_memory_bytes,
        downloaded_bytes=snapshot.download.bytes if snapshot.download else 0,
    )
