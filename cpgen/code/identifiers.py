"""C identifiers from the user's names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

# C99, the C++ words a header must avoid, and the C library
_WORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while _Bool _Complex
    _Imaginary alignas alignof and and_eq asm bitand bitor bool catch class compl concept constexpr const_cast decltype
    delete dynamic_cast explicit export false friend mutable namespace new noexcept not not_eq nullptr operator or or_eq
    private protected public reinterpret_cast requires static_assert static_cast template this thread_local throw true
    try typeid typename using virtual wchar_t xor xor_eq main errno signals linux unix
    abs acos asin atan atan2 ceil cos cosh erf erfc exp expm1 fabs floor fmax fmin fmod gamma hypot isnan isinf j0 j1 jn
    lgamma log log10 log1p log2 pow round sin sinh sqrt tan tanh tgamma trunc y0 y1 yn
    NULL INFINITY NAN LANES SHARED GROUP
    offsetof va_list wchar_t max_align_t dim3 threadIdx blockIdx blockDim gridDim warpSize min max memcpy memset
    fpclassify isfinite isnormal signbit isgreater isgreaterequal isless islessequal islessgreater isunordered
    HUGE_VAL HUGE_VALF HUGE_VALL math_errhandling EOF L_ctermid L_tmpnam P_tmpdir alloca
    stdin stdout stderr assert complex imaginary I
"""
# macros and types of the headers that generated text includes, and of C libraries' own
_HEADERS = re.compile(
    r"^([A-Z]{4,}[A-Z0-9_]*|[A-Z]{2,}[A-Z0-9]*_[A-Z0-9_]+|M_[A-Z0-9_]+|[a-z0-9_]+_t|(be|le)[0-9]+toh|hto(be|le)[0-9]+)$"
)
# the names that generated code uses itself, all of them local: no prefix disturbs them
_OWN = """
    args f work work_bytes n_rows columns first_row first_column seed design accumulate threads rows row col lane lanes
    sum step tile count begin chunk words left bit last source item noise noise_offset column
    noise_key part panel terms at first down across owner shared COLS gemm gemm_context turned whole group
    filled blas packed numbers
"""
FOREIGN = frozenset(_WORDS.split())
RESERVED = FOREIGN | frozenset(_OWN.split())
# what generated code appends to names, or puts before them
DERIVED = re.compile(r"_(tile|rows|out|first|next|from|to|at|t[0-9]+)$|^out_|^cpgen_")


def spell(text: str) -> str:
    """``text`` with everything that cannot be in a C name as underscores; usable after a prefix."""
    return "_".join(re.split(r"[^0-9A-Za-z_]+", text))


def identifier(text: str, fallback: str = "value", reserved: Collection[str] = RESERVED) -> str:
    """``text`` as a C identifier (letters, digits, single underscores), never reserved."""
    name = spell(text).strip("_") or fallback
    if name[0].isdigit():
        name = f"n{name}"
    return name + "_" if name in reserved or _HEADERS.match(name) or DERIVED.search(name) else name


def external_prefix(text: str) -> str:
    """``text`` as what all external names of a model begin with."""
    return identifier(text, "model", FOREIGN)


def unique(name: str, taken: set[str], fixed: Collection[str] = frozenset(), tried: dict[str, int] | None = None) -> str:
    """``name``, or ``name_2``, ``name_3`` ... if it is taken or ``fixed``; the result is added to ``taken``.

    ``tried``: where a name that was asked for before goes on, so that a thousand equal ones are not counted up each time.
    """
    candidate, number = name, 2 if tried is None else tried.get(name, 2)
    if number > 2:
        candidate, number = f"{name}_{number}", number + 1
    while candidate in taken or candidate in fixed:
        candidate, number = f"{name}_{number}", number + 1
    taken.add(candidate)
    if tried is not None:
        tried[name] = number
    return candidate


def identifiers(names: Iterable[str]) -> list[str]:
    """A C identifier for each name, in order: those that come out the same are numbered."""
    taken: set[str] = set()
    tried: dict[str, int] = {}
    return [unique(identifier(name), taken, tried=tried) for name in names]
