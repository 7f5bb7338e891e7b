"""``python -m tests.faults``, from the root of the checkout."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from faults.command import main  # the name that pytest knows the package by

if __name__ == "__main__":
    sys.exit(main())
