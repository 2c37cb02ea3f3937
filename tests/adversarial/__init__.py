"""Specs that ask for much, each of another shape.

``SPECS`` maps a name to a function that makes the files of a spec, of which ``main.danet`` is the one
to check: about ``size`` characters, or so much more asked for in fewer. ``wild`` makes one at random.
"""

from tests.adversarial.specs import SPECS, network, staged
from tests.adversarial.wild import wild

__all__ = ["SPECS", "network", "staged", "wild"]
