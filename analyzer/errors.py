"""The errors that reach users: what is wrong, where, and what to do about it, each with a stable dotted code.

Belongs here: the exception classes and their exit codes. Not here: printing (that is ``cli``), checking (that is the
rooms that find the fault).
"""

from __future__ import annotations


class AnalyzerError(Exception):
    """A fault that the user can do something about.

    Parameters
    ----------
    code
        Stable dotted code, for example ``model.truncated``; scripts may rely on it.
    message
        One line: what is wrong and where.
    hint
        One line: what to do. Empty where the message says it all.
    """

    exit_code = 3

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        self.code = code
        self.message = " ".join(str(message).split())
        self.hint = " ".join(str(hint).split())
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint} [{self.code}]" if self.hint else f"{self.message} [{self.code}]"

    def to_dict(self) -> dict[str, str]:
        """The error as a JSON-ready dictionary."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class UsageError(AnalyzerError):
    """A wrong argument: unknown method, target out of range, missing layer, unreadable path (exit 2)."""

    exit_code = 2


class InputError(AnalyzerError):
    """A model or data file that is invalid, unsafe or unsupported (exit 3)."""

    exit_code = 3


class UnsupportedError(InputError):
    """The model is valid, but this method can't be used on it: names the ONNX nodes in the way (exit 3)."""


class ParityError(InputError):
    """The trace disagrees with onnxruntime: names the first ONNX node that differs (exit 3)."""


class InconclusiveError(AnalyzerError):
    """Nothing could be checked (exit 4)."""

    exit_code = 4
