"""Plans to C text: frozen views, rendered by the templates in ``templates/c``."""

from cpgen.emit.render import CFiles, emit_c
from cpgen.emit.views import stage_text

__all__ = ["CFiles", "emit_c", "stage_text"]
