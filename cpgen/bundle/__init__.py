"""Bundles: a model's C with everything a firmware or a service needs to build, test and link it."""

from cpgen.bundle.make import write_bundle
from cpgen.bundle.options import BundleOptions, size_in_bytes
from cpgen.bundle.report import ProgramReport, Report

__all__ = ["BundleOptions", "ProgramReport", "Report", "size_in_bytes", "write_bundle"]
