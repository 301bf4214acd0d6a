"""What the user writes, and its lowering to the graph language."""

from cpgen.ir.nodes import ROWS
from cpgen.model import layers
from cpgen.model.constants import position
from cpgen.model.expressions import Axis
from cpgen.model.helpers import layer_norm, logsumexp, max, mean, min, norm, prod, rms_norm, softmax, sum
from cpgen.model.model import Model, Variable, from_expression, is_expression, wrt_names

__all__ = [
    "ROWS",
    "Axis",
    "Model",
    "Variable",
    "from_expression",
    "is_expression",
    "layer_norm",
    "layers",
    "logsumexp",
    "max",
    "mean",
    "min",
    "norm",
    "position",
    "prod",
    "rms_norm",
    "softmax",
    "sum",
    "wrt_names",
]
