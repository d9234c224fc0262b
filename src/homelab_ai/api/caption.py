"""`POST /api/caption`: images in, as a form or in JSON, and a description of each out."""

import re
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from homelab_ai.api.access import ScopedRoute, needs, use
from homelab_ai.api.context import context_of
from homelab_ai.api.documents import INFERENCE, errors
from homelab_ai.api.images import GivenImage, fetched, read_image
from homelab_ai.api.priority import lane_of
from homelab_ai.api.reading import RequestBody, content_type_of, read, while_connected
from homelab_ai.api.services import services_of
from homelab_ai.api.timing import server_timing
from homelab_ai.captioning.service import DEFAULT_NEW_TOKENS, Image, Wishes
from homelab_ai.errors import CrawlBlocked, CrawlFailed, InvalidRequest, ServiceError, UnsupportedMediaType
from homelab_ai.models.timing import Timing

router = APIRouter(route_class=ScopedRoute, tags=["Captions"])

_FORM = "multipart/form-data"


class CaptionRequest(RequestBody):
    """Images to describe, and how."""

    image: str | None = Field(
        default=None,
        description="One image file in base64, bare or as a data URI; or its address, with http:// or https://, for "
        "which a key needs the scope `crawl`, too.",
    )
    batch: list[str] | None = Field(
        default=None, description="Several of them, up to `limits.max_images` (64 unless set otherwise)."
    )
    model: str | None = Field(
        default=None, max_length=512, description="Id, alias or hub name of the model; the default model when absent."
    )
    prompt: str | None = Field(
        default=None, max_length=4000, description="What to say of the image. Only for models that follow prompts."
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=DEFAULT_NEW_TOKENS, description="Where a caption is cut off at the latest."
    )
    num_beams: Annotated[int, Field(ge=1, le=10)] = Field(
        default=1, description="How many captions are followed up to choose the best from: slower, at times better."
    )


class ItemError(BaseModel):
    """Why there is no caption of this image."""

    code: str
    message: str
    details: dict[str, Any]


class Caption(BaseModel):
    """The caption of one image of a batch, or its error."""

    index: int = Field(description="Position of the image in the batch.")
    caption: str | None = None
    error: ItemError | None = None


class CaptionResponse(BaseModel):
    """The description of one image, or of each image of a batch."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "request_id": "3f0c6f0e-6a55-4d0f-9c3a-0d0f1c6b8f11",
                "caption": "two cats sleeping on a couch",
                "model_used": "blip-base",
                "processing_time_ms": 150,
            }
        }
    )

    request_id: str = Field(description="The request's id.")
    caption: str | None = Field(default=None, description="What there is to see, where one image was sent.")
    captions: list[Caption] | None = Field(
        default=None, description="The same for each image of a batch, in their order, or what is wrong with it."
    )
    model_used: str = Field(description="Id of the model that answered.")
    processing_time_ms: int = Field(description="How long the answer took, the wait for the model included.")


def _bodies() -> dict[str, Any]:
    """Describe the two kinds of body that the route takes, for FastAPI cannot say so itself."""
    schema = CaptionRequest.model_json_schema()
    file = {"type": "string", "format": "binary"}
    files = {"type": "array", "items": file, "minItems": 1, "description": "The image files."}
    fields = {name: field for name, field in schema["properties"].items() if name not in {"image", "batch"}}
    properties = {"image": files, **fields}
    form = {"type": "object", "properties": properties, "required": ["image"], "additionalProperties": False}
    return {
        "required": True,
        "content": {
            _FORM: {"schema": form, "encoding": {"image": {"contentType": "image/*"}}},
            "application/json": {"schema": {**schema, "anyOf": [{"required": ["image"]}, {"required": ["batch"]}]}},
        },
    }


@router.post(
    "/api/caption",
    summary="Describe images",
    dependencies=[needs("caption")],
    response_model_exclude_none=True,
    responses=errors(*INFERENCE, CrawlBlocked, CrawlFailed),
    openapi_extra={"requestBody": _bodies()},
)
async def caption(request: Request, response: Response) -> CaptionResponse:
    """Describe one image or several: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC files.

    As a form, with the files in `image` (several of them are a batch) and the rest as its other fields; or as JSON,
    with one image in `image` or several in `batch`. In a batch each image has a caption or an error of its own.
    An image that is given by its address is fetched, if pages may be read from there.
    `Server-Timing` says where the time went, in milliseconds.
    """
    started = time.perf_counter()
    context, captioning = context_of(request.scope), services_of(request.scope)["captioning"]
    body, given, one = await (_of_form(request) if content_type_of(request) == _FORM else _of_json(request))
    model = captioning.choose(body.model)
    use(request, model)
    wishes = Wishes(body.prompt, body.max_new_tokens, body.num_beams)
    timing = Timing()

    async def work() -> list[str | ServiceError]:
        images = await fetched(request, given, timing)  # before anything of the model's is taken: a site may be slow
        return await captioning.caption(images, model, wishes, lane_of(request), timing=timing)

    results = await while_connected(request, work())
    response.headers.update(server_timing(timing))
    answer = CaptionResponse(
        request_id=context.request_id,
        model_used=model.id,
        processing_time_ms=round(1000 * (time.perf_counter() - started)),
    )
    if one:
        (result,) = results
        if isinstance(result, ServiceError):
            raise result
        answer.caption = result
    else:
        answer.captions = [_captioned(index, result) for index, result in enumerate(results)]
    return answer


def _captioned(index: int, result: str | ServiceError) -> Caption:
    if isinstance(result, ServiceError):
        error = ItemError(code=result.code, message=result.message, details=result.details)
        return Caption(index=index, error=error)
    return Caption(index=index, caption=result)


# --- the two ways of sending images


async def _of_json(request: Request) -> tuple[CaptionRequest, list[GivenImage], bool]:
    """Return the request, its images, and whether there is one that is no batch."""
    if content_type_of(request).startswith("image/"):
        raise UnsupportedMediaType(
            f"This route reads JSON or a form ({_FORM}), not a bare image; send it as the field `image` of a form",
            details={"content_type": content_type_of(request)[:100]},
        )
    body = _validated(await (await read(request)).json())
    if body.image is not None and body.batch is not None:
        raise InvalidRequest.at("batch", "stands beside `image`; send one of the two")
    if body.image is None and body.batch is None:
        raise InvalidRequest.at("image", "is required: a base64 string or an address, or several in `batch`")
    if body.image is not None:
        return body, [await read_image(request, body.image, "image")], True
    batch = body.batch or []
    limit = services_of(request.scope)["captioning"].max_images
    if not 1 <= len(batch) <= limit:
        raise InvalidRequest.at("batch", f"holds {len(batch)} images; send 1 to {limit}")
    return body, [await read_image(request, text, f"batch[{index}]") for index, text in enumerate(batch)], False


async def _of_form(request: Request) -> tuple[CaptionRequest, list[GivenImage], bool]:
    """The same for a form. Its files are closed, and with that gone, when they have been read."""
    limit = services_of(request.scope)["captioning"].max_images
    try:
        async with request.form(max_files=limit + 1, max_fields=len(CaptionRequest.model_fields)) as form:
            body = _validated(_fields(form))
            files = form.getlist("image")
            if not files:
                raise InvalidRequest.at("image", "is required: an image file, or several under the same name")
            if len(files) > limit:
                raise InvalidRequest.at("image", f"holds more than the {limit} images that one request may; send fewer")
            return body, await _contents(request, files), len(files) == 1
    except HTTPException as error:
        raise InvalidRequest.at("body", f"cannot be read as a form: {error.detail}") from error


def _fields(form: FormData) -> dict[str, Any]:
    """All but the files, as JSON would have them."""
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        if name == "image":
            continue
        if isinstance(value, UploadFile):
            raise InvalidRequest.at(name[:100] or '""', "is a file; files go into the field `image`")
        if name in fields:
            raise InvalidRequest.at(name[:100] or '""', "is there twice; send it once")
        fields[name] = int(value) if name in _NUMBERS and re.fullmatch(r"-?[0-9]{1,9}", value) else value
    return fields


_NUMBERS = {"max_new_tokens", "num_beams"}


async def _contents(request: Request, files: Sequence[UploadFile | str]) -> list[GivenImage]:
    images: list[GivenImage] = []
    for index, file in enumerate(files):
        field = "image" if len(files) == 1 else f"image[{index}]"
        if isinstance(file, UploadFile):
            images.append(Image(await file.read(), field))
        else:  # a part without a file name is a plain field: it is an image in base64 or an address, as in JSON
            images.append(await read_image(request, file, field))
    return images


def _validated(given: Any) -> CaptionRequest:
    try:
        return CaptionRequest.model_validate(given, strict=True)
    except ValidationError as error:
        wrong = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors(include_url=False)]
        raise RequestValidationError(wrong) from error
