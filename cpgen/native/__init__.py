"""C text to callable: compiler, cache, loading, calling, numeric check."""

from cpgen.native.arithmetic import arithmetic, warn_of_arithmetic
from cpgen.native.check import check_against_interpreter, check_program
from cpgen.native.compiler import Compiler, find_compiler, known_compiler
from cpgen.native.cuda import CudaProgram, DeviceArray, build_cuda, find_nvcc, on_device
from cpgen.native.fastcall import ANY_ROWS, Shapes, rows_of
from cpgen.native.interface import Interface
from cpgen.native.module import (
    NativeCall,
    NativeModule,
    NativeProgram,
    Opened,
    build,
    compiled,
    load,
    prepare,
)

__all__ = [
    "ANY_ROWS",
    "Compiler",
    "CudaProgram",
    "DeviceArray",
    "Interface",
    "NativeCall",
    "NativeModule",
    "NativeProgram",
    "Opened",
    "Shapes",
    "arithmetic",
    "build",
    "build_cuda",
    "check_against_interpreter",
    "check_program",
    "compiled",
    "find_compiler",
    "find_nvcc",
    "known_compiler",
    "load",
    "on_device",
    "prepare",
    "rows_of",
    "warn_of_arithmetic",
]
