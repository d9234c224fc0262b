"""`GET /api/status`: the service at a glance, for a dashboard in the home.

Shallow, and in bytes and seconds: a widget of Homepage or Glance can name each field by its path.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from homelab_ai.api.access import needs
from homelab_ai.api.documents import errors
from homelab_ai.api.services import services_of
from homelab_ai.configuration import Configuration
from homelab_ai.models.catalogue import Kind
from homelab_ai.models.device import Gpu, Processor
from homelab_ai.models.residency import LOADED, ModelState, Snapshot

router = APIRouter(tags=["Monitoring"])


class DeviceStatus(BaseModel):
    """What runs the models."""

    cpu: str = Field(description="Name of the processor.")
    cpu_cores: int = Field(description="Cores that models may use.")
    cpu_features: list[str] = Field(description="What it has that makes models fast.")
    gpu: str | None = Field(description="Name of the first GPU, where NVIDIA's driver tells; null without one.")
    gpus: int = Field(description="How many GPUs the driver tells of.")
    gpu_memory_bytes: int | None = Field(description="Their memory.")
    gpu_memory_used_bytes: int | None = Field(description="What all programs of the machine take of it.")
    models_on: list[str] = Field(description="The devices that loaded models run on.")


class MemoryStatus(BaseModel):
    """What is taken of the budget, and what may be."""

    used_bytes: int = Field(
        description="Main memory that is taken: by models, those being loaded included, the browser, and what reads "
        "pages."
    )
    budget_bytes: int = Field(description="What may be taken: `resources.max_memory_gb`.")
    gpu_used_bytes: int = Field(description="What models take of the GPU, as their processes report it.")
    gpu_budget_bytes: int = Field(description="What they may take: `resources.max_gpu_memory_gb`.")


class ModelStatus(BaseModel):
    """One model on offer, in short; `/api/models` has the rest."""

    id: str
    type: Kind
    state: ModelState
    memory_bytes: int
    gpu_memory_bytes: int
    active_requests: int
    queued_requests: int
    p95_seconds: float | None = Field(
        description="What 95 of its last 100 requests took at most, the wait for it included; null without any."
    )
    idle_seconds: float | None = Field(description="How long it has been loaded without a request.")
    unloads_in_seconds: float | None = Field(description="When it is unloaded if no request comes.")


class QueueStatus(BaseModel):
    """Requests that wait for a model."""

    depth: int = Field(description="How many wait for a load, or for their first run.")
    capacity: int = Field(description="How many may be at work and waiting before others are refused.")


class RequestsStatus(BaseModel):
    """Requests since the service started, of every kind; this very one is not among them."""

    total: int
    active: int = Field(description="Being answered now.")
    succeeded: int
    refused: int = Field(description="4xx: the request was at fault.")
    failed: int = Field(description="5xx: the service was.")
    gone: int = Field(description="Whose client went before the answer.")
    last_minute: int = Field(description="That ended in the last 60 seconds.")


class ErrorStatus(BaseModel):
    """One error that was answered."""

    time: datetime
    status: int
    code: str
    endpoint: str
    request_id: str = Field(description="As in the log.")


class BrowserStatus(BaseModel):
    """What shows pages that need their scripts."""

    running: bool = Field(description="It starts with the first such page, and ends when none comes for a while.")
    pages: int = Field(description="How many it is at, or wait for it.")
    memory_bytes: int = Field(description="What all its processes take.")
    sandboxed: bool | None = Field(description="Whether pages are kept in its sandbox; null before its first start.")


class ConfigurationStatus(BaseModel):
    """The settings in force. The file is read anew when it changes."""

    loaded_at: datetime = Field(description="When they were read.")
    current: bool = Field(description="False while the file cannot be used as it is now; the log says why.")
    needing_restart: list[str] = Field(description="Settings changed since the start that take effect with the next.")


class StatusResponse(BaseModel):
    """The service at a glance."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "version": "0.1.0",
                "uptime_seconds": 86400.5,
                "ready": True,
                "configuration": {
                    "loaded_at": "2025-01-30T08:00:00.000000Z",
                    "current": True,
                    "needing_restart": [],
                },
                "device": {
                    "cpu": "AMD Ryzen 7 7700",
                    "cpu_cores": 8,
                    "cpu_features": ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"],
                    "gpu": "NVIDIA GeForce RTX 3060",
                    "gpus": 1,
                    "gpu_memory_bytes": 12884901888,
                    "gpu_memory_used_bytes": 1610612736,
                    "models_on": ["cpu"],
                },
                "memory": {
                    "used_bytes": 175112192,
                    "budget_bytes": 10307921510,
                    "gpu_used_bytes": 0,
                    "gpu_budget_bytes": 8589934592,
                },
                "browser": {"running": False, "pages": 0, "memory_bytes": 0, "sandboxed": True},
                "models_loaded": 1,
                "models": [
                    {
                        "id": "minilm",
                        "type": "text_embedding",
                        "state": "ready",
                        "memory_bytes": 175112192,
                        "gpu_memory_bytes": 0,
                        "active_requests": 0,
                        "queued_requests": 0,
                        "p95_seconds": 0.012,
                        "idle_seconds": 12.5,
                        "unloads_in_seconds": 1787.5,
                    }
                ],
                "queue": {"depth": 0, "capacity": 260},
                "requests": {
                    "total": 1042,
                    "active": 0,
                    "succeeded": 1030,
                    "refused": 11,
                    "failed": 1,
                    "gone": 0,
                    "last_minute": 4,
                },
                "errors": [
                    {
                        "time": "2025-01-31T08:00:00.123000Z",
                        "status": 504,
                        "code": "TIMEOUT",
                        "endpoint": "/api/caption",
                        "request_id": "3f0c6f0e-6a55-4d0f-9c3a-0d0f1c6b8f11",
                    }
                ],
            }
        }
    )

    version: str
    uptime_seconds: float
    ready: bool = Field(description="As `/ready` says.")
    configuration: ConfigurationStatus
    device: DeviceStatus
    memory: MemoryStatus
    browser: BrowserStatus
    models_loaded: int
    models: list[ModelStatus]
    queue: QueueStatus
    requests: RequestsStatus
    errors: list[ErrorStatus] = Field(
        description="The last ones, the newest first: of callers that were let in, and all with a status of 5xx."
    )


@router.get("/api/status", summary="The service at a glance", dependencies=[needs("read")], responses=errors())
async def status(request: Request) -> StatusResponse:
    """Show what the service is doing and takes. Cheap, and loads nothing: made to be asked every few seconds."""
    with services_of(request.scope)["metrics"].requests.watching():
        return await status_response(request)


async def status_response(request: Request) -> StatusResponse:
    """Say what the service is doing and takes."""
    services = services_of(request.scope)
    gpus = await services["gpus"].now()  # first: what follows is of one instant
    models, counted = services["models"], services["metrics"].requests
    durations = services["metrics"].durations
    snapshots = [models.snapshot(model) for model in models.catalogue]
    totals, browser = counted.totals, services["crawling"].browser
    return StatusResponse(
        version=request.app.version,
        uptime_seconds=round(time.monotonic() - services["started"], 3),
        ready=services["state"].is_usable(),
        configuration=_configuration(services["configuration"]),
        device=_device(services["processor"], gpus, snapshots),
        memory=MemoryStatus(
            used_bytes=models.used.memory_bytes,
            budget_bytes=models.budget.memory_bytes,
            gpu_used_bytes=sum(snapshot.footprint.gpu_memory_bytes for snapshot in snapshots),
            gpu_budget_bytes=models.budget.gpu_memory_bytes,
        ),
        browser=BrowserStatus(
            running=browser.running,
            pages=browser.at_work,
            memory_bytes=browser.memory_bytes,
            sandboxed=browser.sandboxed,
        ),
        models_loaded=sum(snapshot.state in LOADED for snapshot in snapshots),
        models=[_model(snapshot, durations.p95(snapshot.model.id)) for snapshot in snapshots],
        queue=QueueStatus(depth=sum(snapshot.queued_requests for snapshot in snapshots), capacity=models.most_requests),
        requests=RequestsStatus(
            total=totals.total,
            active=counted.active,
            succeeded=totals.succeeded,
            refused=totals.refused,
            failed=totals.failed,
            gone=totals.gone,
            last_minute=totals.last_minute,
        ),
        errors=[ErrorStatus.model_validate(error, from_attributes=True) for error in reversed(counted.errors)],
    )


def _configuration(configuration: Configuration) -> ConfigurationStatus:
    return ConfigurationStatus(
        loaded_at=datetime.fromtimestamp(configuration.loaded_at, UTC),
        current=configuration.is_current,
        needing_restart=configuration.needing_restart,
    )


def _device(processor: Processor, gpus: Sequence[Gpu], snapshots: Sequence[Snapshot]) -> DeviceStatus:
    devices = {str(snapshot.described.get("device", "cpu")) for snapshot in snapshots if snapshot.state in LOADED}
    return DeviceStatus(
        cpu=processor.name,
        cpu_cores=processor.cores,
        cpu_features=list(processor.features),
        gpu=gpus[0].name if gpus else None,
        gpus=len(gpus),
        gpu_memory_bytes=sum(gpu.memory_bytes for gpu in gpus) if gpus else None,
        gpu_memory_used_bytes=sum(gpu.memory_used_bytes for gpu in gpus) if gpus else None,
        models_on=sorted(devices),
    )


def _model(snapshot: Snapshot, p95_seconds: float | None) -> ModelStatus:
    return ModelStatus(
        id=snapshot.model.id,
        type=snapshot.model.kind,
        state=snapshot.state,
        memory_bytes=snapshot.footprint.memory_bytes,
        gpu_memory_bytes=snapshot.footprint.gpu_memory_bytes,
        active_requests=snapshot.active_requests,
        queued_requests=snapshot.queued_requests,
        p95_seconds=_rounded(p95_seconds),
        idle_seconds=_rounded(snapshot.idle_seconds),
        unloads_in_seconds=_rounded(snapshot.unloads_in_seconds),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
