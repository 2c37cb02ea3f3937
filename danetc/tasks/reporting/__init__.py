"""``danetc report``: runs as one HTML page that works from a file, without scripts or a network.

=============== ==================================================================
runs.py         the records in the directories of runs
layer_values.py a measure's value for each layer, and for each box of a picture
topology.py     pictures of ``danetc.compiler.draw`` with measures as colours
figures.py      curves, and the figures of a grid, by matplotlib
tables.py       results, stages, layers, settings, facts
page.py         all of it in page.html.j2, with page.css inside
=============== ==================================================================

jinja2 or the XML writer escapes all text of specs and files, and the page's Content-Security-Policy
allows its own style sheet only, by its hash.
"""

from danetc.tasks.reporting.figures import grid_figures
from danetc.tasks.reporting.page import make_page
from danetc.tasks.reporting.runs import ShownRun, open_runs

__all__ = ["ShownRun", "grid_figures", "make_page", "open_runs"]
