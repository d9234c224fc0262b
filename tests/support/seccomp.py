"""Runs a command under a seccomp profile, as a container engine would: `python -m support.seccomp PROFILE COMMAND...`.

libseccomp does the work. Its constants are those of seccomp.h.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

ACTIONS = {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_ERRNO": 0x00050000}
ARCHITECTURES = {"SCMP_ARCH_X86_64": 0xC000003E, "SCMP_ARCH_AARCH64": 0xC00000B7}
OPERATORS = {"SCMP_CMP_EQ": 4, "SCMP_CMP_MASKED_EQ": 7}
UNKNOWN = -1


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("value_two", ctypes.c_uint64),
    )


def library() -> ctypes.CDLL:
    """libseccomp. Raises `OSError` where there is none."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int),
        *(ctypes.c_uint, ctypes.POINTER(_Comparison)),
    ]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    library.seccomp_syscall_resolve_name_arch.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    return library


def load(profile: dict[str, Any]) -> None:
    """Put this process, and all that it starts, under the profile; for this processor alone."""
    seccomp = library()
    filter_ = seccomp.seccomp_init(ACTIONS[profile["defaultAction"]] | profile["defaultErrnoRet"])
    for rule in profile["syscalls"]:
        comparisons = [
            _Comparison(each["index"], OPERATORS[each["op"]], each["value"], each.get("valueTwo", 0))
            for each in rule.get("args", ())
        ]
        for name in rule["names"]:
            number = seccomp.seccomp_syscall_resolve_name(name.encode())
            if number < 0:  # not of this processor, or newer than the library
                continue
            action = ACTIONS[rule["action"]] | rule.get("errnoRet", 0)
            array = (_Comparison * len(comparisons))(*comparisons)
            failed = seccomp.seccomp_rule_add_array(filter_, action, number, len(comparisons), array)
            assert not failed, f"{name}: {os.strerror(-failed)}"
    failed = seccomp.seccomp_load(filter_)
    assert not failed, os.strerror(-failed)


if __name__ == "__main__":
    load(json.loads(Path(sys.argv[1]).read_text()))
    os.execvp(sys.argv[2], sys.argv[2:])
