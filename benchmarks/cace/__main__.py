"""``python benchmarks/cace``: see :mod:`measure`. Needs the environment of CACE."""

from __future__ import annotations

import sys

from measure import main

if __name__ == "__main__":
    sys.exit(main())
