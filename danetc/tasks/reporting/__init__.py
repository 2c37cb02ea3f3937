"""``danetc report``: runs as one HTML page that works offline and without scripts.

jinja2 or the XML writer escapes all text of specs and files, and the page's Content-Security-Policy
allows its own style sheet only, by its hash.
"""

from danetc.tasks.reporting.figures import grid_figures
from danetc.tasks.reporting.page import make_page
from danetc.tasks.reporting.runs import ShownRun, open_runs

__all__ = ["ShownRun", "grid_figures", "make_page", "open_runs"]
