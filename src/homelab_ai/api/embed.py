"""`POST /api/embed`: texts in, vectors out."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Header
from pydantic import BaseModel, BeforeValidator, ConfigDict, FailFast, Field
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from homelab_ai.api.access import needs, use
from homelab_ai.api.context import context_of
from homelab_ai.api.documents import INFERENCE, errors
from homelab_ai.api.priority import lane_of
from homelab_ai.api.reading import JsonRoute, RequestBody, while_connected
from homelab_ai.api.services import services_of
from homelab_ai.api.timing import server_timing
from homelab_ai.errors import Conflict
from homelab_ai.models.timing import Timing

router = APIRouter(route_class=JsonRoute, tags=["Embeddings"])


def _no_single_text(texts: Any) -> Any:
    if isinstance(texts, str):
        raise PydanticCustomError("single_text", 'expected a list of strings, such as ["one text"], got a string')
    return texts


class EmbedRequest(RequestBody):
    """Texts to embed."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"texts": ["The cat sleeps", "A dog barks"], "model": "minilm"}}
    )

    texts: Annotated[list[str], FailFast(), BeforeValidator(_no_single_text)] = Field(
        description="One to `limits.max_texts` texts (4096 unless set otherwise). An empty text is a text: it gets "
        "the vector that the model gives it.",
        json_schema_extra={"minItems": 1},
    )
    model: str | None = Field(
        default=None, max_length=512, description="Id, alias or hub name of the model; the default model when absent."
    )


class EmbedResponse(BaseModel):
    """The vectors."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "request_id": "3f0c6f0e-6a55-4d0f-9c3a-0d0f1c6b8f11",
                "embeddings": [[0.0373, -0.0118, 0.0491], [-0.0052, 0.1027, 0.0306]],
                "dimensions": 384,
                "model_used": "minilm",
            }
        }
    )

    request_id: str = Field(description="The request's id.")
    embeddings: list[list[float]] = Field(description="One vector for each text, in the order of the texts.")
    dimensions: int = Field(description="Length of each vector.")
    model_used: str = Field(description="Id of the model that answered.")
    truncated: list[int] = Field(
        default=[],
        description="Positions of the texts that were longer than the model's window: only their beginning is in "
        "their vector. Absent when every text was read whole.",
    )


@router.post(
    "/api/embed",
    summary="Turn texts into vectors",
    response_model=EmbedResponse,
    dependencies=[needs("embed")],
    responses=errors(*INFERENCE, Conflict),
)
async def embed(
    request: Request,
    body: Annotated[EmbedRequest, Body()],
    x_expect_fingerprint: Annotated[
        str | None,
        Header(
            description="The `X-Embedding-Fingerprint` of earlier answers: where the model's vectors are others "
            "now, the answer is 409, and no vectors that do not belong with those."
        ),
    ] = None,
) -> Response:
    """Embed one or many texts. The model is loaded when it is first asked for, which takes some seconds.

    Requests that arrive together share runs of the model, and a long list lets short questions go first. A program that
    can wait says so with the header `Priority: u=5` (RFC 9218). `X-Embedding-Fingerprint` is the same for all vectors
    that belong into one database: keep it beside them. `Server-Timing` says where the time went, in milliseconds.
    """
    context, embedding = context_of(request.scope), services_of(request.scope)["embedding"]
    model = embedding.choose(body.model)
    use(request, model)
    timing = Timing()
    result = await while_connected(
        request, embedding.embed(body.texts, model, lane_of(request), expected=x_expect_fingerprint, timing=timing)
    )
    answer = {
        "request_id": context.request_id,
        "embeddings": result.matrix,
        "dimensions": result.dimensions,
        "model_used": result.model_id,
    }
    if result.truncated:
        answer["truncated"] = result.truncated
    headers = server_timing(timing)
    if result.fingerprint:
        headers["X-Embedding-Fingerprint"] = result.fingerprint
    content = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, headers=headers, media_type="application/json")
