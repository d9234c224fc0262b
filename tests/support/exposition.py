"""What `/metrics` shows: which metrics there are, and how they are read."""

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[str, ...]
Samples = dict[str, dict[Labels, float]]

LABELS: dict[str, Labels] = {
    # of the specification
    "api_requests_total": ("endpoint", "status"),
    "api_request_duration_seconds": ("endpoint",),
    "model_load_duration_seconds": ("model",),
    "model_inference_duration_seconds": ("model",),
    "models_loaded": ("model",),
    "gpu_memory_used_bytes": (),
    "active_requests": (),
    # beside them
    "api_errors_total": ("code",),
    "model_load_failures_total": ("model",),
    "model_queue_wait_seconds": ("model",),
    "model_batch_items": ("model",),
    "model_tokens_total": ("model",),
    "model_unloads_total": ("model", "reason"),
    "model_host_deaths_total": ("model",),
    "model_active_requests": ("model",),
    "model_queued_requests": ("model",),
    "model_memory_bytes": ("model",),
    "model_gpu_memory_bytes": ("model",),
    "model_download_bytes": ("model",),
    "models_memory_used_bytes": (),
    "models_memory_budget_bytes": (),
    "models_gpu_memory_budget_bytes": (),
    "gpu_device_memory_bytes": ("gpu",),
    "gpu_device_memory_used_bytes": ("gpu",),
    "homelab_ai_build_info": ("version",),
    "crawl_pages_total": ("outcome", "way"),
    "crawl_failures_total": ("code",),
    "crawl_blocked_requests_total": (),
    "config_last_reload_successful": (),
    "config_last_reload_success_timestamp_seconds": (),
    "process_virtual_memory_bytes": (),
    "process_resident_memory_bytes": (),
    "process_start_time_seconds": (),
    "process_cpu_seconds_total": (),
    "process_open_fds": (),
    "process_max_fds": (),
}


def parsed(text: str) -> Samples:
    """Every sample but buckets, by its name and the values of its labels in the order of their names."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith("_bucket"):
                values = tuple(value for _, value in sorted(sample.labels.items()))
                assert values not in samples.get(sample.name, {}), f"{sample} is there twice"
                samples.setdefault(sample.name, {})[values] = sample.value
    return samples
