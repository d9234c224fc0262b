"""The time that a request may take, whatever it asks of a model."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from homelab_ai.errors import RequestTimeout
from homelab_ai.models.catalogue import Model


@contextlib.asynccontextmanager
async def within(seconds: float, model: Model, *, send_fewer: str) -> AsyncIterator[None]:
    """End what is inside after so many seconds with `RequestTimeout`; `send_fewer` of what would be faster."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise RequestTimeout(
            f"Model {model.id!r} did not answer within {seconds:g} s; send fewer {send_fewer}, or try again later if "
            "the model is still being downloaded",
            details={"model_id": model.id, "timeout_seconds": seconds},
        ) from None
