"""What is learned of a sample."""

from __future__ import annotations

from typing import Literal

Target = Literal["classes", "pixels", "numbers"]
"""Its class, the class of each of its pixels, or numbers."""
IGNORED = -100
"""The class of pixels that count for nothing: torch's, in place of 255 as files have it."""
