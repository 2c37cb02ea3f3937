"""Specs that ask for much work, each in a different way.

``SPECS`` maps a name to a function that makes the files of a spec. ``main.danet`` is the one to check. The
spec has about ``size`` characters, or fewer that ask for more. ``wild`` makes a random one.
"""

from tests.adversarial.specs import SPECS, network, staged
from tests.adversarial.wild import wild

__all__ = ["SPECS", "network", "staged", "wild"]
