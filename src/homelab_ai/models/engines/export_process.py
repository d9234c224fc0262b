"""The process that makes one export: torch is in it, and its memory is to go when it is done.

    python -m homelab_ai.models.engines.export_process MODULE MODEL FOLDER [REVISION]

MODULE is the one that exports such models. A model that cannot be exported, or passes the gate in no precision, is
written down with the reason.
"""

import importlib
import os
import sys
import traceback
import warnings
from pathlib import Path

from homelab_ai.models.hosts import process

_INIT = 1


def main() -> None:
    """Be that process. What is imported takes seconds, so to end with the parent comes first."""
    process.end_with_the_parent()
    if os.getppid() == _INIT:
        os._exit(1)  # the parent has ended already, and the folder may be another's by now
    import torch  # noqa: PLC0415

    from homelab_ai.models import cores  # noqa: PLC0415
    from homelab_ai.models.engines import exporting, exports  # noqa: PLC0415

    module, folder, where, *named = sys.argv[1:]
    revision = named[0] if named else None
    warnings.filterwarnings("ignore")
    torch.set_num_threads(cores.usable())
    status = 0
    try:
        exports.write(Path(where), importlib.import_module(module).export(Path(folder), Path(where), revision))
    except exporting.NotPossibleError as reason:
        exporting.say(str(reason))
        exports.write(Path(where), exports.Export(revision, str(reason)))
    except Exception:  # noqa: BLE001 - whatever it was, it belongs into the log
        exporting.say(traceback.format_exc())
        status = 1
    sys.stdout.flush()
    os._exit(status)  # nothing here is worth a clean exit, which takes OpenVINO and torch a second


if __name__ == "__main__":
    main()
