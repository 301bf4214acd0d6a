"""C text to callable: compiler, cache, loading, calling, numeric check."""

from cpgen.native.arithmetic import arithmetic, warn_of_arithmetic
from cpgen.native.check import check_against_interpreter, check_program
from cpgen.native.compiler import Compiler, find_compiler
from cpgen.native.cuda import CudaProgram, DeviceArray, build_cuda, find_nvcc, on_device
from cpgen.native.fastcall import ANY_ROWS, Shapes, rows_of
from cpgen.native.module import NativeCall, NativeModule, NativeProgram, build, load

__all__ = [
    "ANY_ROWS",
    "Compiler",
    "CudaProgram",
    "DeviceArray",
    "NativeCall",
    "NativeModule",
    "NativeProgram",
    "Shapes",
    "arithmetic",
    "build",
    "build_cuda",
    "check_against_interpreter",
    "check_program",
    "find_compiler",
    "find_nvcc",
    "load",
    "on_device",
    "rows_of",
    "warn_of_arithmetic",
]
