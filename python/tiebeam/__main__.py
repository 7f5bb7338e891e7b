"""``python -m tiebeam`` is ``tiebeam``."""

import sys

from tiebeam.cli import main

sys.exit(main())
