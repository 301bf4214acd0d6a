"""What things are called in the finished text: names of a model's own, runtime functions, functions of math.h."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from cpgen.code import tokens
from cpgen.code.rewrite import rebuilt
from cpgen.code.tree import Block, Call, For, Function, Name, Type
from cpgen.emit.runtime import RUN, defined, real_names

# macros of the text itself, beside those of its programs
MACROS = frozenset(name for name in defined(RUN) if not name.lower().startswith(("cpgen_", "omp_share")))
# what templates/runtime/cpgen_run.h defines: the text's own, since there is only what it calls
_RUN = frozenset(name for name in defined(RUN) if name.startswith("cpgen_")) | {RUN}
_GUARD, _TEAM = "CPGEN_RUN_H", "OMP_TEAM"  # likewise


@dataclass(frozen=True)
class Spelling:
    """How a text says what its trees name.

    ``model`` stands before ``own``, the names that the text defines for itself, so that one file may include it beside
    another model's.  ``private``: also before its macros, and runtime functions have the model's name in place of cpgen.
    ``function`` gives what stands for a function of math.h, ``infinity`` is called for HUGE_VAL if it is not "".
    """

    model: str
    own: frozenset[str] = frozenset()
    private: bool = False
    function: Callable[[str], str] = str
    infinity: str = ""

    @property
    def macros(self) -> str:
        """What stands before a macro."""
        return f"{self.model.upper()}_" if self.private else ""

    @property
    def runtime(self) -> str:
        """What runtime functions begin with."""
        return f"{self.model}_rt_" if self.private else "cpgen_"

    def local(self, name: str) -> str:
        """A name that the text defines for itself."""
        upper = self.model.upper()
        if name.startswith((f"{self.model}_", f"{upper}_")):
            return name
        return f"{upper if name.isupper() else self.model}_{name}"

    def word(self, name: str) -> str:
        """Any name of a tree, or of C text that is not the user's."""
        if name in self.own:
            return self.local(name)
        if self.private and name in MACROS and name != _TEAM:
            return self.macros + name
        if name in _RUN or (self.private and name.startswith("cpgen_")):
            return f"{self.model}_rt_{name[len('cpgen_') :]}"
        if name == _TEAM:
            return f"{self.model.upper()}_{name}"
        if name == _GUARD or (self.private and name.startswith("CPGEN_")):
            return f"{self.model.upper()}_RT_{name[len('CPGEN_') :]}"
        return name

    def used(self, names: Iterable[str]) -> set[str]:
        """What some names of trees stand for, runtime functions by the names of their header."""
        found = {self.function(name) for name in names}
        if self.infinity and any(name.startswith("HUGE_VAL") for name in found):
            found = {self.infinity, *(name for name in found if not name.startswith("HUGE_VAL"))}
        return found

    def tree(self, tree: Any) -> Any:
        """A tree, or a sequence of them, with these names."""

        def change(node: Any) -> Any:
            if isinstance(node, Name):
                if self.infinity and node.text.startswith("HUGE_VAL"):
                    return Call(self.word(self.infinity))
                word = self.word(node.text)
                return node if word is node.text else Name(word)
            if isinstance(node, Call):
                word = self.word(self.function(node.function))
                return node if word is node.function else replace(node, function=word)
            if isinstance(node, Type):
                word = self.word(node.base)
                return node if word is node.base else replace(node, base=word)
            if isinstance(node, (For, Block)) and node.pragma:
                return replace(node, pragma=self.word(node.pragma))
            if isinstance(node, Function):
                kind = "STAGE void" if self.private and node.kind == "static void" else node.kind
                kind = " ".join(self.word(word) for word in kind.split(" "))
                return replace(node, name=self.word(node.name), kind=kind)
            return node

        return rebuilt(tree, change)

    def text(self, text: str) -> str:
        """C text that the user wrote, with these names."""
        return tokens.renamed(text, lambda name: self.word(self.function(name)))

    def header(self, text: str, real: str) -> str:
        """A runtime header with these names, in its comments too."""
        given = real_names(real)
        if self.private:
            given["CPGEN_DRIVER"] = self.word("SHARED")
        return tokens.renamed(text, lambda name: given.get(name) or self.word(name), comments=True)
