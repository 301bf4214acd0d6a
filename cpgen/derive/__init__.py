"""Derivations: graph in, graph out.  Everything here changes what is computed; nothing here knows about loops or C."""
