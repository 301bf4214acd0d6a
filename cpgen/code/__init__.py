"""A typed tree of C, its rewriting and its printers; nothing here knows a model."""
