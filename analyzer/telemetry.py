"""Keeping onnxruntime from reporting on whoever uses it.

Belongs here: the switch, thrown by ``import analyzer``, which everything of ours that imports onnxruntime passes through. Not
here: onnxruntime itself (``executor``).

Its official builds look up and write to a server, and keep a device's id and a queue of events in the user's cache, names of
model files among them. The variable counts only before onnxruntime is imported; whoever has set it is left alone.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "ORT_DISABLE_TELEMETRY"


def turn_off() -> None:
    """Set the variable for this process and its children.

    Where onnxruntime has been imported already, its events about models are turned off; what it began at its import goes on.
    """
    if VARIABLE in os.environ:
        return
    os.environ[VARIABLE] = "1"
    runtime = sys.modules.get("onnxruntime")
    if runtime is not None and hasattr(runtime, "disable_telemetry_events"):
        runtime.disable_telemetry_events()
