"""cpgen: a compiler from SymPy models to native code that estimates curvature.

Declare a model in index notation (:class:`Model`) or take a plain SymPy expression, :func:`compile` it, and ask for the
diagonal, the trace, a block or a sketch of its Hessian with error bars; :func:`verify` compares it with the symbolic one.
"""

from __future__ import annotations

from cpgen.api import bundle, compile, verify
from cpgen.bundle import Report
from cpgen.errors import ArithmeticWarning, CpgenError, CpgenWarning, NonFiniteWarning
from cpgen.estimate.estimator import Estimator
from cpgen.estimate.results import Estimate, Estimates, Hessian, Sketch, Traces
from cpgen.model import (
    ROWS,
    Model,
    layer_norm,
    layers,
    logsumexp,
    max,
    mean,
    min,
    norm,
    position,
    prod,
    rms_norm,
    softmax,
    sum,
)
from cpgen.scalar import (
    function,
    gelu,
    hypot,
    log_ndtr,
    logcosh,
    normcdf,
    relu,
    rint,
    sigmoid,
    silu,
    softplus,
    xlogy,
)
from cpgen.version import __version__ as __version__

__all__ = [
    "ROWS",
    "ArithmeticWarning",
    "CpgenError",
    "CpgenWarning",
    "Estimate",
    "Estimates",
    "Estimator",
    "Hessian",
    "Model",
    "NonFiniteWarning",
    "Report",
    "Sketch",
    "Traces",
    "bundle",
    "compile",
    "function",
    "gelu",
    "hypot",
    "layer_norm",
    "layers",
    "log_ndtr",
    "logcosh",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "normcdf",
    "position",
    "prod",
    "relu",
    "rint",
    "rms_norm",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "sum",
    "verify",
    "xlogy",
]
