"""Examples of the language description, by title."""

import re
from pathlib import Path

_TEXT = Path(__file__).with_name("language.danet").read_text("utf-8")
EXAMPLES = dict(re.findall(r"^### (.*)\n((?:(?!### ).*\n)*)", _TEXT, re.MULTILINE))  # title: text
