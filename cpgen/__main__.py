"""``python -m cpgen`` is the command ``cpgen``."""

import sys

from cpgen.cli import main

sys.exit(main())
