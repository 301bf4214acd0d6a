"""The graph language: nodes, construction, checking, printing, interpretation, noise."""
