"""``python -m les`` is the command ``les``."""

import sys

from les.children import end_with_parent
from les.cli import main

end_with_parent()
sys.exit(main())
