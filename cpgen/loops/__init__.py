"""Graph to loops: phases, stages with loop nests, memory plan.  A plan is frozen data; nothing here knows C."""

from cpgen.loops.lower import plan
from cpgen.loops.plan import Check, Nest, Plan, Slot, Stage, Value

__all__ = ["Check", "Nest", "Plan", "Slot", "Stage", "Value", "plan"]
