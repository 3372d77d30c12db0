"""`python -m ssl4eo_bench`."""

import sys

from ssl4eo_bench.cli import main

sys.exit(main())
