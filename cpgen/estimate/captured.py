"""Several programs of one estimator on fixed arrays as one CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cpgen.errors import DataError, RequestError, ShapeError
from cpgen.estimate.arrays import gathered
from cpgen.estimate.backends import Cuda
from cpgen.estimate.sampling import Sampling, variance_of_mean
from cpgen.ir.call import Call
from cpgen.ir.nodes import ROWS
from cpgen.ir.noise import DESIGNS, IDENTITY, noise_order, variance_of_column
from cpgen.native import CudaProgram, DeviceArray

if TYPE_CHECKING:
    from cpgen.estimate.compiled import Loaded
    from cpgen.estimate.estimator import Estimator

Array = NDArray[np.floating]
CAPTURED = ("value", "gradient", "diagonal", "trace")


@dataclass(frozen=True)
class _Part:
    """One program of the graph and where its results lie."""

    what: str
    loaded: Loaded
    call: Call
    rows: int | None
    outputs: Mapping[str, Array]
    places: Mapping[str, Any]
    exact: bool


class Captured:
    """See :meth:`Estimator.capture`.  A context manager: device memory and graph end with it."""

    def __init__(
        self,
        estimator: Estimator,
        what: Sequence[str],
        samples: int,
        seed: int,
        design: str,
        arrays: Mapping[str, object],
    ) -> None:
        if estimator.options.target != "cuda":
            raise RequestError("capture makes a CUDA graph, which is for target='cuda'; on the CPU use bind(...)")
        if not what or len(set(what)) != len(what) or not set(what) <= set(CAPTURED):
            raise RequestError(f"capture{tuple(what)!r}: name one or more of {', '.join(CAPTURED)}, each once")
        self._estimator = estimator
        self._sampling = Sampling(samples, seed, design, None, None, samples, 0)
        self._held = ExitStack()
        self._copied: dict[str, tuple[Any, DeviceArray]] = {}  # arrays of NumPy on the device
        module = estimator.gpu_module(*what)
        self._device = module.device
        try:
            self._capture(what, {key: module[estimator.derive(key).program.name] for key in what}, arrays)
        except BaseException:
            self._held.close()
            raise

    def _capture(self, what: Sequence[str], programs: Mapping[str, CudaProgram], arrays: Mapping[str, object]) -> None:
        held, launches = self._held, []
        self._parts: list[_Part] = []
        for key in what:
            loaded = self._estimator.loaded(key)
            given, rows = self._estimator.arrays(loaded, arrays)
            call, exact = self._call(loaded, rows)
            self._estimator.check_memory(loaded, call)
            program = Cuda(programs[key]).program
            outputs = program.outputs(call)
            placed = {name: self._placed(name, array) for name, array in given.items()}
            launch, places = held.enter_context(program.prepared(placed, outputs, call))
            launches.append(launch)
            self._parts.append(_Part(key, loaded, call, rows, outputs, places, exact))
        self.stream = held.enter_context(self._device.stream())

        def enqueue() -> None:
            for launch in launches:
                launch(self.stream)

        self.replay = held.enter_context(self._device.captured(self.stream, enqueue))

    def _call(self, loaded: Loaded, rows: int | None) -> tuple[Call, bool]:
        """The numbers of a program's one sweep, and whether its answer is exact."""
        scale = 1.0 / (rows or 1)
        if not loaded.program.name.startswith(("diagonal", "trace")):
            return Call(rows or 1, row_scale=scale), True
        mode, columns = self._sampling.decide(loaded.derived)
        if mode != "sample":
            return Call(rows or 1, columns, design=IDENTITY, row_scale=scale), True
        spread = variance_of_column(columns)  # as where several batches make up a mean
        design, seed = DESIGNS[self._sampling.design], self._sampling.seed
        return Call(rows or 1, columns, seed, design, 0, 0, scale, 1.0 / columns, spread), False

    def _placed(self, name: str, array: Array | DeviceArray) -> DeviceArray:
        """The array on the device; one of NumPy is copied there once for all programs."""
        if isinstance(array, DeviceArray):
            return array
        if name not in self._copied:
            place = self._held.enter_context(self._device.memory(array.nbytes))
            there = DeviceArray(self._device.address(place), array.shape, array.dtype, None, place)
            self._copied[name] = (place, there)
            self._device.put(place, np.ascontiguousarray(array))
        return self._copied[name][1]

    def update(self, arrays: Mapping[str, object] | None = None, /, **named: object) -> None:
        """Copy new numbers to arrays of NumPy that were given; what is enqueued is waited for first.

        Raises DataError for other names, ShapeError for another shape.
        """
        self._device.wait(self.stream)
        for name, value in gathered(arrays, named).items():
            if name not in self._copied:
                raise DataError(f"{name} is no array of NumPy that was given to capture: change it in place")
            place, there = self._copied[name]
            array = np.ascontiguousarray(value, there.dtype)
            if array.shape != there.shape:
                raise ShapeError(f"{name} has shape {array.shape}, captured was {there.shape}")
            self._device.put(place, array)

    def results(self) -> dict[str, Any]:
        """Wait, and copy the results: program -> what the estimator's method of that name returns."""
        self._device.wait(self.stream)
        found: dict[str, Any] = {}
        for part in self._parts:
            outputs: dict[str, Array] = {}
            nodes = dict(part.loaded.program.outputs)
            for name, place in part.places.items():
                self._device.get(part.outputs[name], place)
                outputs[name] = part.outputs[name].copy()
                if part.rows is None and nodes[name].has_rows:
                    outputs[name] = np.squeeze(outputs[name], axis=nodes[name].shape.index(ROWS))
            found[part.what] = self._packaged(part, outputs)
        return found

    def _packaged(self, part: _Part, outputs: dict[str, Array]) -> Any:
        leaves = [v.name for v in self._estimator.wrt]
        labels = [f"{prefix}_{leaf}" for prefix in ("grad", "diag") for leaf in leaves] + ["value", "trace"]
        asked = {label: f"{part.what}, {label}" for label in labels if label in outputs and label != "value"}
        asked = asked if part.what != "value" else {"value": "value"}
        self._estimator.settle(part.loaded, outputs, asked, None, part.rows)
        if part.what == "value":
            return float(outputs["value"])
        if part.what == "gradient":
            return {leaf: outputs[f"grad_{leaf}"] for leaf in leaves}
        if not part.exact:
            order = noise_order(part.loaded.program)
            of_mean = variance_of_mean(part.call.columns, self._sampling.design, order)
            outputs |= {name: array * of_mean for name, array in outputs.items() if name.startswith("var_")}
        wanted = {f"diag_{leaf}": leaf for leaf in leaves} if part.what == "diagonal" else {"trace": "trace"}
        made = self._estimator.package(
            part.loaded, wanted, outputs, self._sampling, part.call.columns, part.exact, part.rows
        )
        return made if part.what == "diagonal" else made["trace"]

    def __call__(self) -> dict[str, Any]:
        self.replay()
        return self.results()

    def __enter__(self) -> Captured:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._device.wait(self.stream)
        self._held.close()
