"""``danetc report``: runs as one HTML page that works offline and without scripts.

jinja2 or the XML writer escapes all text of specs and files, and the page's Content-Security-Policy
allows its own style sheet only, by its hash.
"""
