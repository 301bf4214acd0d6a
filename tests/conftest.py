"""Tests begin without what other tests found out; those of :mod:`tests.estimate.test_warm` say otherwise."""

from __future__ import annotations

import os

os.environ.setdefault("CPGEN_NOTES", "0")
