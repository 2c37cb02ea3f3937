"""``python -m danetc`` is the ``danetc`` command."""

import sys

from danetc.entry import run

sys.exit(run())
