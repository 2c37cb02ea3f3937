"""``python -m danetc`` is the ``danetc`` command."""

import sys

from danetc.main import main

sys.exit(main())
