"""``python -m digits``: the command ``digits``."""

import sys

from digits import cli

sys.exit(cli.main())
