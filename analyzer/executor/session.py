"""One onnxruntime session per model and set of wanted values.

Belongs here: making a session, exposing inner values as outputs, running it. Not here: onnxruntime's errors as ours
(``runtime_errors``), masks and batches of perturbed inputs (``batched_runs``), devices (``devices``).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import UsageError
from analyzer.executor.devices import first_provider, prepare, providers
from analyzer.executor.io_binding import HeldInputs, bindable, run_bound
from analyzer.executor.runtime_errors import load_error, run_error
from analyzer.importer.checked_files import CheckedFiles

Array = NDArray[Any]


class Session:
    """A model loaded into onnxruntime.

    Parameters
    ----------
    source
        Path of the model file, or its serialized bytes.
    device
        ``cpu`` or ``cuda:N``; checked to be what the session really runs on.
    expose
        Names of inner values to give out beside the graph's outputs.
    files
        What the model is read from, its folder when ``source`` is bytes; it must be as it was checked.
    threads
        Threads inside one operator; 0 lets onnxruntime choose.
    spin
        Whether those threads wait for work awake: quicker on an idle machine, but it costs processor time.
    tf32
        Whether CUDA may compute products in TF32 instead of float32.
    held
        Arrays that lie on the device already.

    Raises
    ------
    InputError
        ``runtime.load_failed`` with onnxruntime's reason; ``model.changed``.
    """

    def __init__(
        self,
        source: Path | bytes,
        device: str = "cpu",
        expose: Sequence[str] = (),
        files: CheckedFiles | None = None,
        threads: int = 0,
        optimize: bool = True,
        spin: bool = False,
        tf32: bool = False,
        held: HeldInputs | None = None,
    ) -> None:
        prepare(device)
        files = files or CheckedFiles(source.parent if isinstance(source, Path) else None)
        with files.unchanged():
            if expose:
                source = (source if isinstance(source, bytes) else source.read_bytes()) + _outputs(expose)
            options = _options(threads, optimize, spin, files.folder if isinstance(source, bytes) else None)
            self._session = _opened(source, options, device, tf32)
        running = self._session.get_providers()[0]
        if running != first_provider(device):
            raise UsageError(
                "device.unavailable", f"onnxruntime fell back from {device} to {running}", "install onnxplain[cuda]"
            )
        self.device = device
        self._held_inputs = held or HeldInputs(device)
        given = [*self._session.get_inputs(), *self._session.get_overridable_initializers()]
        self.inputs: tuple[str, ...] = tuple(i.name for i in given)
        self.outputs: tuple[str, ...] = tuple(o.name for o in self._session.get_outputs())
        self.evaluations = 0
        self._lock = threading.Lock()

    @property
    def metadata(self) -> dict[str, str]:
        """The model's metadata properties."""
        return dict(self._session.get_modelmeta().custom_metadata_map)

    def types(self) -> dict[str, tuple[str, tuple[int | str | None, ...]]]:
        """Output name -> (onnxruntime type, shape)."""
        return {o.name: (o.type, tuple(o.shape or ())) for o in self._session.get_outputs()}

    def run(
        self, feed: Mapping[str, Array], outputs: Sequence[str] | None = None, held: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run once. May be called from several threads.

        Parameters
        ----------
        held
            Inputs as onnxruntime's values, on the session's device.

        Raises
        ------
        InputError
            ``data.bad_shape`` or ``data.bad_type`` where the feed doesn't fit, ``runtime.op_failed`` else.
        OutOfMemoryError
            ``limit.memory``.
        """
        names = list(outputs if outputs is not None else self.outputs)
        if not names:  # which onnxruntime takes for all
            return {}
        try:
            got = self._run(names, feed, held or {})
        except Exception as problem:
            raise run_error(problem) from None
        with self._lock:
            self.evaluations += next((len(v) for v in feed.values() if np.ndim(v)), 1)
        return got

    def _run(self, names: Sequence[str], feed: Mapping[str, Array], held: Mapping[str, Any]) -> dict[str, Any]:
        if not held and (self.device == "cpu" or not all(map(bindable, feed.values()))):
            return dict(zip(names, self._session.run(names, dict(feed)), strict=True))
        there = {name: value for name in feed if (value := self._held_inputs.find(feed[name])) is not None}
        rest = {name: value for name, value in feed.items() if name not in there}
        return run_bound(self._session, rest, {**held, **there}, names)


def _opened(source: Path | bytes, options: Any, device: str, tf32: bool) -> Any:
    """onnxruntime's session.

    Raises
    ------
    InputError
        ``runtime.load_failed``.
    """
    import onnxruntime

    where = source if isinstance(source, bytes) else str(source)
    try:
        return onnxruntime.InferenceSession(where, options, providers=providers(device, tf32))
    except Exception as problem:
        raise load_error(problem) from None


def _options(threads: int, optimize: bool, spin: bool, folder: Path | None) -> Any:
    """onnxruntime's options; ``folder`` is where external data lies where the model itself is bytes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    return options


def _outputs(names: Sequence[str]) -> bytes:
    """Bytes that, behind a serialized model, add graph outputs: protobuf merges concatenated messages."""
    import onnx

    extra = onnx.ModelProto()
    extra.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    content: bytes = extra.SerializeToString()
    return content
