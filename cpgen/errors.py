"""The errors a user can meet.  Every one is a :class:`CpgenError` with one message in the user's own terms."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol


class SourcePlace(Protocol):
    """Anything that knows where in the user's source it was written."""

    @property
    def file(self) -> str: ...

    @property
    def line(self) -> int: ...


THROUGH = ("sympy", "numpy", "contextlib", "functools")


@dataclass(frozen=True)
class Place:
    """A line of source."""

    file: str
    line: int


def users_line() -> Place:
    """The innermost line that is being executed outside this package and what it calls back through."""
    frame, _ = _users_frame()
    return Place(Path(frame.f_code.co_filename).name, frame.f_lineno)


def _users_frame() -> tuple[FrameType, int]:
    """The frame of :func:`users_line`, and how many frames above the caller's it is."""
    frame, level = sys._getframe(1), 0
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (__package__, *THROUGH):
        frame, level = frame.f_back, level + 1
    return frame, level


class CpgenError(Exception):
    """Base of all errors raised on purpose.

    ``origin`` says where the cause was declared; when its ``file`` is not empty it is appended as ``(model.py:12)``.
    """

    def __init__(self, message: str, origin: SourcePlace | None = None) -> None:
        self.message = message
        self.origin = origin
        place = f" ({origin.file}:{origin.line})" if origin is not None and origin.file else ""
        super().__init__(message + place)

    def __reduce__(self) -> tuple[object, ...]:
        """Out of a worker process it comes with the line that it had there."""
        return type(self), (self.message, self.origin)


class ModelError(CpgenError):
    """A declaration is wrong or contradicts another one."""


class ShapeError(CpgenError):
    """Shapes or extents do not fit together."""


class DataError(CpgenError):
    """An array handed in cannot be used: NaN or Inf, a wrong dtype, wrong strides."""


class UnsupportedError(CpgenError):
    """The request is meaningful but outside what the compiler can express."""


class RequestError(CpgenError):
    """Something was asked for that cannot be answered; names the line of the call where no other is given."""

    def __init__(self, message: str, origin: SourcePlace | None = None) -> None:
        super().__init__(message, origin or users_line())


class EnvironmentProblem(CpgenError):
    """The machine lacks something that is needed, for example a C compiler."""


class BudgetError(CpgenError):
    """The memory needed exceeds the memory allowed."""


class CheckError(CpgenError):
    """A numeric check of generated code failed."""


class CpgenWarning(UserWarning):
    """Something works, but less well than it could."""


class NonFiniteWarning(CpgenWarning):
    """A sum over rows is NaN because some rows are not finite (with ``nonfinite="nan"``), or a definition can be NaN."""


class ArithmeticWarning(CpgenWarning):
    """The processor was told to deviate from IEEE arithmetic, so results may have other bits."""


def warn_user(message: str, category: type[CpgenWarning] = CpgenWarning) -> None:
    """Issue a warning for the line of :func:`users_line`."""
    _, level = _users_frame()
    warnings.warn(message, category, stacklevel=level + 1)
