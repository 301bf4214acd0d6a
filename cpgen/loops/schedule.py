"""How a program is dealt out to the threads of a GPU, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from cpgen.errors import RequestError

LANES = 32  # rows of a tile: a warp
MOST_SHARED = 160 * 1024  # bytes that a block of compute capability 8.0 may have, the least of those compiled for
MOST_SUMS = 64  # of one thread in a panel: they must stay in registers


@dataclass(frozen=True)
class Schedule:
    """The numbers that decide how a program is laid out on a GPU; results have the same bits with any of them.

    ``workers``: threads for each row of a tile of 32.  ``columns``: noise columns that a stage handles together, so that
    each weight is read once for all of them; their values take as many times the memory.  ``shared_bytes``: a tile of
    more lies in the workspace.  ``tiles_per_chunk``: tiles of rows between two visits of the sums over rows.
    ``most_blocks``: of one launch.

    ``products``: a product of a weight matrix and row values whose extents are both at least this is a kernel of its own
    over all rows and columns of a chunk; 0 for none.  ``least_panel``: likewise for outer products summed over rows.
    Both take their operands through shared memory: a block of ``down * across`` threads owns ``panel * panel`` elements
    and has ``depth`` terms of their sums there at a time.

    ``terms``: of another sum over rows, ``terms`` numbers lie in shared memory at a time: all threads of a block compute
    them, and the owner of an element adds them up in their order.

    ``gemm``: a product of at least this many multiplications a row is handed to the caller's library if one is passed
    in; 0, the default, compiles no such call.  A library adds up in an order of its own: the bits are then not the CPU's.

    ``reasons`` say where the numbers come from; they take no part in comparisons.
    Raises RequestError for numbers that no kernel can be made with.
    """

    workers: int = 8
    columns: int = 1
    shared_bytes: int = 96 * 1024
    tiles_per_chunk: int = 256
    most_blocks: int = 1024
    products: int = 0
    least_panel: int = 32
    panel: int = 64
    depth: int = 16
    down: int = 8
    across: int = 16
    terms: int = 2048
    gemm: int = 0
    reasons: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "reasons"}
        for name, number in numbers.items():
            least = 0 if name in ("products", "gemm", "shared_bytes") else 1
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise RequestError(f"schedule: {name}={number!r} is not a whole number of at least {least}")
        for wrong, why in (
            (self.workers > 1024 // LANES, f"workers={self.workers}: a block has at most 1024 threads, 32 for each"),
            (self.columns > 16, f"columns={self.columns}: at most 16 columns have their sums in registers together"),
            (self.shared_bytes > MOST_SHARED, f"shared_bytes={self.shared_bytes}: a block has at most {MOST_SHARED}"),
            (self.panel % self.down or self.panel % self.across, "panel must be a multiple of down and of across"),
            (self.threads % LANES or self.threads > 1024, "down * across must be a multiple of 32, at most 1024"),
            (self.threads % self.panel, "down * across must be a multiple of panel"),
            (self.panel * self.panel > MOST_SUMS * self.threads, f"a thread has more than {MOST_SUMS} sums in a panel"),
            (not LANES <= self.terms <= 6144, f"terms={self.terms} is not between {LANES} and 6144, which are 48 KiB"),
            (self.panel * self.depth * 3 * 8 > 48 * 1024, "three panels of panel * depth numbers exceed 48 KiB"),
        ):
            if wrong:
                raise RequestError(f"schedule: {why}")

    @property
    def threads(self) -> int:
        """Threads of a block outside the row stages."""
        return self.down * self.across

    @property
    def blocks(self) -> int:
        """Blocks of panels that a multiprocessor is to have at least, with 128 registers for each of their threads."""
        return max(1, 65536 // (128 * self.threads))

    def numbers(self) -> dict[str, int]:
        """All fields but the reasons."""
        return {name: value for name, value in asdict(self).items() if name != "reasons"}


def schedule_of(numbers: Mapping[str, object], reason: str) -> Schedule:
    """The schedule with some numbers given by name.  Raises RequestError for an unknown name or a bad number."""
    known = {f.name for f in fields(Schedule)} - {"reasons"}
    unknown = sorted(set(numbers) - known)
    if unknown:
        raise RequestError(f"schedule: {', '.join(unknown)} is not one of {', '.join(sorted(known))}")
    return Schedule(**numbers, reasons=(reason,))  # type: ignore[arg-type]
