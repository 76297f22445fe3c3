"""onnxruntime's errors as ours: what failed, at which node, and what to do about it.

Belongs here: reading its messages. Not here: sessions (``session``).
"""

from __future__ import annotations

import re

from analyzer.errors import AnalyzerError, InputError

#: How onnxruntime and its providers say that memory ran out: arena, C++, CUDA, cuBLAS and cuDNN.
_NO_MEMORY = (
    "failed to allocate memory",
    "bad_alloc",
    "bad allocation",
    "out of memory",
    "alloc_failed",
    "not enough memory",
)
_NODE = re.compile(r"Non-zero status code returned while running (\S+) node\. Name:'(.*?)' Status Message: (.*)")
#: Where in onnxruntime's source: a file with a line, then a function's signature or its bare name.
_PLACE = re.compile(
    r"^\S+\.(?:cc|cpp|cu|h|hpp):\d+ (?:\S[^)]*\([^)]*\)(?: const)?(?: \[with [^\]]*\])? |[A-Za-z_]\w* )?"
)
_VALUES = re.compile(
    r"out of data bounds|out of range value in index|ind(?:ex|ices)\b.*\bout of (?:bounds|range)", re.I
)
_SHAPES = re.compile(r"dimension|shape|\brank\b|broadcast|\bax[ie]s\b|channels|cannot split|\bsizes?\b", re.I)
#: A message is cut behind so many characters.
_LONGEST = 400


class OutOfMemoryError(InputError):
    """The runtime couldn't allocate what a run needs."""


def load_error(problem: Exception) -> AnalyzerError:
    """Why a model couldn't be loaded."""
    return InputError(
        "runtime.load_failed",
        f"onnxruntime can't load the model: {reason(problem)}",
        "check the file with `python -m onnx.checker`, or re-export it",
    )


def run_error(problem: Exception) -> AnalyzerError:
    """What a failed run was."""
    text, said = str(problem), reason(problem)
    if isinstance(problem, MemoryError) or any(sign in text.lower() for sign in _NO_MEMORY):
        return OutOfMemoryError(
            "limit.memory", f"onnxruntime ran out of memory: {said}", "give a smaller input or batch"
        )
    if _VALUES.search(text):
        return InputError("runtime.op_failed", said, "a number in the input is beyond what the model knows")
    about_shapes = bool(_SHAPES.search(said))
    if "INVALID_ARGUMENT" in text and about_shapes:
        return InputError("data.bad_shape", said, "see `onnxplain inspect` for the shapes it takes")
    if ("INVALID_ARGUMENT" in text and not _NODE.search(text)) or "Required inputs" in text:
        return InputError("data.bad_type", said, "see `onnxplain inspect` for the inputs it takes")
    hint = "an input of another shape may suit it: see `onnxplain inspect`" if about_shapes else "try another input"
    return InputError("runtime.op_failed", f"onnxruntime failed: {said}", hint)


def reason(problem: Exception) -> str:
    """What onnxruntime says, without where in its source: ``Conv node 'c': Input channels C is not equal to ...``."""
    text = " ".join(re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(problem)).split())
    found = _NODE.search(text)
    where = f"{found[1]} node {found[2]!r}: " if found and found[2] else f"{found[1]} node: " if found else ""
    said = _PLACE.sub("", found[3] if found else text)
    said = said.rpartition(" was false. ")[2]  # the condition in onnxruntime's source
    said = f"{where}{said.removesuffix('.')}" or type(problem).__name__
    return said if len(said) <= _LONGEST else said[:_LONGEST].rsplit(" ", 1)[0] + " …"
