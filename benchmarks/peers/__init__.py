"""cpgen and every peer that installs, on the same seeded data in one interleaved run: ``python3 run.py bench``."""
