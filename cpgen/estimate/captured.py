"""Several programs of one estimator on fixed arrays as one CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cpgen.derive.outputs import read_output
from cpgen.derive.request import DIAGONAL, GRADIENT, TRACE, VALUE
from cpgen.errors import DataError, RequestError, ShapeError
from cpgen.estimate.arrays import gathered
from cpgen.estimate.backends import Cuda
from cpgen.estimate.compiled import Loaded
from cpgen.estimate.core import Core, Data, Found
from cpgen.estimate.sampling import Sampling, variance_of_mean, whole_design
from cpgen.ir.call import Call
from cpgen.ir.nodes import ROWS
from cpgen.ir.noise import DESIGNS, variance_of_column
from cpgen.native import CudaProgram, DeviceArray

Array = NDArray[np.floating]
REQUESTS = {"value": VALUE, "gradient": GRADIENT, "diagonal": DIAGONAL, "trace": TRACE}


@dataclass(frozen=True)
class _Part:
    """One program of the graph and where its results lie."""

    what: str
    loaded: Loaded
    call: Call
    data: Data
    outputs: Mapping[str, Array]
    places: Mapping[str, Any]
    exact: bool


class Captured:
    """See :meth:`cpgen.Estimator.capture`.  A context manager: device memory and graph end with it."""

    def __init__(
        self,
        core: Core,
        what: Sequence[str],
        sampling: Sampling,
        arrays: Mapping[str, object],
    ) -> None:
        if core.options.target != "cuda":
            raise RequestError("capture makes a CUDA graph, which is for target='cuda'; on the CPU use bind(...)")
        if not what or len(set(what)) != len(what) or not set(what) <= set(REQUESTS):
            raise RequestError(f"capture{tuple(what)!r}: name one or more of {', '.join(REQUESTS)}, each once")
        self._core, self._sampling = core, sampling
        self._held = ExitStack()
        self._copied: dict[str, tuple[Any, DeviceArray]] = {}  # arrays of NumPy on the device
        derived = {REQUESTS[each]: core.derive(REQUESTS[each]) for each in what}
        module = core.programs.on_gpu(derived)  # one library, which a CUDA graph needs
        self._device = module.device
        try:
            self._capture([(each, module[derived[REQUESTS[each]].program.name]) for each in what], arrays)
        except BaseException:
            self._held.close()
            raise

    def _capture(self, programs: Sequence[tuple[str, CudaProgram]], arrays: Mapping[str, object]) -> None:
        held, launches = self._held, []
        self._parts: list[_Part] = []
        for what, unchecked in programs:
            loaded = self._core.loaded(REQUESTS[what])
            data = self._core.arrays(loaded, arrays)
            call, exact = self._call(loaded, data)
            self._core.check_memory(loaded, call)
            program = Cuda(unchecked).program
            outputs = program.outputs(call)
            placed = {name: self._placed(name, array) for name, array in data.arrays.items()}
            launch, places = held.enter_context(program.prepared(placed, outputs, call))
            launches.append(launch)
            self._parts.append(_Part(what, loaded, call, data, outputs, places, exact))
        self.stream = held.enter_context(self._device.stream())

        def enqueue() -> None:
            for launch in launches:
                launch(self.stream)

        self.replay = held.enter_context(self._device.captured(self.stream, enqueue))

    def _call(self, loaded: Loaded, data: Data) -> tuple[Call, bool]:
        """The numbers of a program's one sweep, and whether its answer is exact."""
        if loaded.request in (VALUE, GRADIENT):
            return self._core.call(data), True
        mode, columns = self._sampling.decide(loaded.derived)
        if mode != "sample":
            return self._core.unit_call(data, columns), True
        spread = variance_of_column(columns)  # as where several batches make up a mean
        design, seed = DESIGNS[self._sampling.design], self._sampling.seed
        numbers = {"columns": columns, "column_scale": 1.0 / columns, "variance_scale": spread}
        return self._core.call(data, seed=seed, design=design, **numbers), False

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
                if part.data.rows is None and nodes[name].has_rows:
                    outputs[name] = np.squeeze(outputs[name], axis=nodes[name].shape.index(ROWS))
            found[part.what] = self._packaged(part, outputs)
        return found

    def _packaged(self, part: _Part, outputs: dict[str, Array]) -> Any:
        core = self._core
        if part.what == "value":
            asked = {"value": "value"}
        else:
            results = {**core.gradients, **core.diagonals, "trace": ""}
            asked = {label: f"{part.what}, {label}" for label in results if label in outputs}
        core.settle(part.loaded, outputs, asked, part.data)
        if part.what == "value":
            return float(outputs["value"])
        if part.what == "gradient":
            return core.by_leaf("gradient", outputs)
        if not part.exact:
            order = whole_design(part.loaded.derived)
            of_mean = variance_of_mean(part.call.columns, self._sampling.design, order)
            outputs = {n: a * of_mean if read_output(n).is_variance else a for n, a in outputs.items()}
        wanted = core.diagonals if part.what == "diagonal" else {"trace": "trace"}
        found = Found(outputs, part.call.columns, part.exact)
        made = core.package(part.loaded, wanted, found, self._sampling, part.data.rows)
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
