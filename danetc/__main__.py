"""``python -m danetc`` is the ``danetc`` command."""

import sys

from danetc.main import process

sys.exit(process())
