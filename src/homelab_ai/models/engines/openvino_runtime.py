"""OpenVINO, without its telemetry: every engine takes `ov` from here.

`import openvino` alone sends an event to Google Analytics, and so does each conversion, if the package
`openvino_telemetry` is there; pip installs it as a dependency. Where it cannot be imported, OpenVINO uses a stub.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # what Python takes for "cannot be imported"

import openvino as ov  # noqa: E402 - after that

__all__ = ["ov"]
