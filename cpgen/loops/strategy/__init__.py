"""How the stages of a program are computed: one frozen strategy for a plan, which everything that is chosen is asked of.

* :class:`Lanes`: rows side by side, a tile of them at a time; products of large weights in pieces, or by a BLAS;
* :class:`OneRow`: a row at a time, whose sums are computed side by side;
* :class:`Compact`: few sums on the stack and one loop for each axis, for machines with little memory;
* :class:`Gpu`: the threads of a GPU, by the numbers of a schedule.
"""

from cpgen.loops.strategy.base import Strategy
from cpgen.loops.strategy.compact import Compact
from cpgen.loops.strategy.gpu import Gpu
from cpgen.loops.strategy.lanes import Lanes
from cpgen.loops.strategy.row import OneRow

__all__ = ["Compact", "Gpu", "Lanes", "OneRow", "Strategy"]
