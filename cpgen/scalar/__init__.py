"""The only layer that knows SymPy's scalar expressions: derivatives, canonical form, C text, NumPy functions, cost."""

from __future__ import annotations

from cpgen.scalar.canonical import canonical
from cpgen.scalar.ccode import CCode, literal, to_c
from cpgen.scalar.derivative import diff, has_gaps, kinks, second_order_zero
from cpgen.scalar.factors import factors
from cpgen.scalar.functions import (
    LARGEST_ROOT,
    Primitive,
    UserFunction,
    absval,
    computed_together,
    eigenroot,
    expm1,
    function,
    gelu,
    hypot,
    log1p,
    log_ndtr,
    logcosh,
    logistic_density,
    maximum,
    minimum,
    normcdf,
    placeholder,
    relu,
    rint,
    sech2,
    sigmoid,
    sign0,
    silu,
    softplus,
    step,
    xlogy,
)
from cpgen.scalar.lengths import lengths
from cpgen.scalar.lower import Cost, cost, operations
from cpgen.scalar.memo import free_symbols, kinds, remembered, renamed, scoped, spelled, vanishes
from cpgen.scalar.numeric import check_constants, exact_float, to_numpy
from cpgen.scalar.primitives import PRIMITIVES, Entry
from cpgen.scalar.signs import sign_of
from cpgen.scalar.together import fold, is_whole, wide

__all__ = [
    "LARGEST_ROOT",
    "PRIMITIVES",
    "CCode",
    "Cost",
    "Entry",
    "Primitive",
    "UserFunction",
    "absval",
    "canonical",
    "check_constants",
    "computed_together",
    "cost",
    "diff",
    "eigenroot",
    "exact_float",
    "expm1",
    "factors",
    "fold",
    "free_symbols",
    "kinds",
    "spelled",
    "function",
    "gelu",
    "has_gaps",
    "hypot",
    "is_whole",
    "kinks",
    "lengths",
    "literal",
    "log1p",
    "log_ndtr",
    "logcosh",
    "logistic_density",
    "maximum",
    "minimum",
    "normcdf",
    "operations",
    "placeholder",
    "relu",
    "remembered",
    "renamed",
    "rint",
    "scoped",
    "second_order_zero",
    "sech2",
    "sigmoid",
    "sign0",
    "sign_of",
    "silu",
    "softplus",
    "step",
    "to_c",
    "to_numpy",
    "vanishes",
    "wide",
    "xlogy",
]
