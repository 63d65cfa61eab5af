"""``python -m moiety`` is the command line."""

import sys

from moiety.run.cli import main

sys.exit(main())
