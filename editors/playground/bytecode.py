"""Run by build.mjs in Pyodide: the first picture, and the bytecode of what the page imports, by package,
as zip archives.

A module that was compiled by the same Python need not be compiled when the page is opened. The files
are marked as unchecked, since unpacking a wheel sets times of its own.
"""

import io
import json
import os
import py_compile
import sys
import zipfile

from graphviz_of_the_page import render

import danetc.specs
from danetc.editor import bridge

RECURRENT = "zoo/srnn.danet"

os.chdir(next(iter(danetc.specs.__path__)))
bridge.draw_with(render)
with open(RECURRENT, encoding="utf-8") as stream:
    specs = {"first.danet": first_spec, RECURRENT: stream.read()}  # noqa: F821
replies = {}
for name, text in specs.items():
    asked = {"name": name, "text": text, "level": "stage", "theme": "light", "at": 0}
    for method in bridge.METHODS:
        request = {**asked, "left": asked, "right": asked, "method": method}
        replies[name, method] = bridge.answer(json.dumps(request))
first_picture = replies["first.danet", "draw"]

site = os.path.dirname(os.path.dirname(os.path.dirname(bridge.__file__)))
found = {}
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None) or ""
    if file.startswith(site) and file.endswith(".py"):
        inside = os.path.relpath(file, site)
        target = os.path.join("/tmp", inside + "c")
        os.makedirs(os.path.dirname(target), exist_ok=True)
        py_compile.compile(
            file,
            target,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        head, tail = os.path.split(inside)
        name = f"{head}/__pycache__/{tail.removesuffix('.py')}.{sys.implementation.cache_tag}.pyc"
        found.setdefault(inside.partition("/")[0], []).append((name, target))

archives = {}
for top, files in sorted(found.items()):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, place in sorted(files):
            with open(place, "rb") as stream:
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, stream.read())
    archives[top] = buffer.getvalue()
