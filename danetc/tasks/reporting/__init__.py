"""``danetc report``: runs as one HTML page that needs no network and works from a file.

=============== ==================================================================
runs.py         what stands in the directories of runs
layer_values.py a measure's value for each layer, and for each box of a picture
topology.py     pictures of ``danetc.compiler.draw`` as parts of a page
chart.py        curves: lines, ticks, and the words of each point
grids.py        the figures of a grid
tables.py       results, stages, layers, settings, facts
highlight.py    the text of a spec by its tokens
page.py         all of it in page.html.j2, with page.css and page.js inside
=============== ==================================================================

Whatever comes from a spec or a file is escaped by jinja2 or by the XML writer, and the page's
Content-Security-Policy allows its own script and style alone, by their hashes.
"""

from danetc.tasks.reporting.grids import grid_figures
from danetc.tasks.reporting.page import make_page
from danetc.tasks.reporting.runs import ShownRun, open_runs

__all__ = ["ShownRun", "grid_figures", "make_page", "open_runs"]
