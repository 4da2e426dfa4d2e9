"""Python runs this in each process that a test starts with this folder in PYTHONPATH."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import environment
