"""The executable meaning of the language: a checked program interpreted in float64 on plain numpy.

It reads the syntax tree and uses neither the compiler's graph nor torch, and it knows the language
from ``docs/semantics.md`` alone. Slow, small and plain: what models are held against.

``tape`` differentiates, ``functions`` are the operations, ``equations`` neurons and surrogates,
``language`` the expressions, ``network`` puts them together, ``training`` is a recipe's arithmetic.
"""
