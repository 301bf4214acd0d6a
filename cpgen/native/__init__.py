"""C text to callable: compiler, cache, loading, calling, numeric check."""

from cpgen.native.check import check_against_interpreter
from cpgen.native.compiler import Compiler, find_compiler
from cpgen.native.module import NativeCall, NativeModule, NativeProgram, build, load

__all__ = [
    "Compiler",
    "NativeCall",
    "NativeModule",
    "NativeProgram",
    "build",
    "check_against_interpreter",
    "find_compiler",
    "load",
]
