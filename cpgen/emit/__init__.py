"""Plans to C text: frozen views, rendered by the templates in ``templates/c``."""

from cpgen.emit.render import CFiles, emit_c

__all__ = ["CFiles", "emit_c"]
