"""`homelab-ai ls` and `homelab-ai ps`: which models there are, and what is in memory."""

from typing import Any

from homelab_ai.cli.options import HERE, AsJson, Url
from homelab_ai.cli.running import service


def ls(url: Url = HERE, *, as_json: AsJson = False) -> None:
    """List the models on offer: what each is, whether it is loaded, and what it takes."""
    from homelab_ai.cli import output  # noqa: PLC0415 - `serve` needs none of this

    with service(url) as client:
        models = client.models()
    if as_json:
        output.show_json({"models": [*models.values()]})
        return
    rows = [
        (
            model["id"],
            model["type"],
            _state(model),
            _memory(model),
            "default" if model["default"] else "",
            model["backend"] or "",
            model["hf_model"],
        )
        for model in models.values()
    ]
    columns = ("id", "type", "state", "memory", "default", "backend", "model")
    output.show(columns, rows, right=("memory",), long=("model",))


def ps(url: Url = HERE, *, as_json: AsJson = False) -> None:
    """Show what is in memory, or on its way there: each model and the browser, and what all of it may take."""
    from homelab_ai.cli import output  # noqa: PLC0415

    with service(url) as client:
        at_work = [model for model in client.models().values() if model["state"] not in {"available", "failed"}]
        status = client.get("/api/status")
    memory, browser = status["memory"], status["browser"]
    if as_json:
        output.show_json({"models": at_work, "browser": browser, "memory": memory})
        return
    rows = [
        (
            model["id"],
            _state(model),
            _memory(model),
            model["device"] or "",
            f"{model['active_requests']}",
            f"{model['requests']}",
            output.duration(model["idle_seconds"]),
            "never" if model["pinned"] else output.duration(model["unloads_in_seconds"]),
        )
        for model in at_work
    ]
    if browser["running"]:
        pages = f"{browser['pages']}"
        rows.append(("(browser)", "ready", output.memory(browser["memory_bytes"]), "cpu", pages, "", "", ""))
    columns = ("id", "state", "memory", "device", "at work", "requests", "idle", "unloads in")
    if rows:
        output.show(columns, rows, right=("memory", "at work", "requests", "idle", "unloads in"))
    print(f"memory: {output.memory(memory['used_bytes']) or '0 MB'} of {output.memory(memory['budget_bytes'])}")
    if memory["gpu_used_bytes"]:
        print(f"GPU: {output.memory(memory['gpu_used_bytes'])} of {output.memory(memory['gpu_budget_bytes'])}")


def _state(model: dict[str, Any]) -> str:
    if not model["enabled"]:
        return "disabled"
    download = model["download"]
    if model["state"] == "downloading" and download and download["total_bytes"]:
        return f"downloading {download['bytes'] / download['total_bytes']:.0%}"
    return f"{model['state']}"


def _memory(model: dict[str, Any]) -> str:
    from homelab_ai.cli import output  # noqa: PLC0415

    gpu = f"{output.memory(model['gpu_memory_bytes'])} GPU" if model["gpu_memory_bytes"] else ""
    return " + ".join(part for part in (output.memory(model["memory_bytes"]), gpu) if part)
