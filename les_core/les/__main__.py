"""``python -m les`` is the command ``les``."""

import sys

from les.cli import main

sys.exit(main())
