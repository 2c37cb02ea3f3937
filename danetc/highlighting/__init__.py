"""Colours for text: the words of the language, and the lexers that are made of them.

``words`` collects the words from the tables; ``python -m danetc.highlighting`` writes them to
``words.json`` and into the grammars of editors, which a test compares with the tables. The lexer of
Pygments (``lexer``) reads ``words.json`` alone: whatever highlights a text with Pygments loads it.
"""
