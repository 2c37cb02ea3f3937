"""Executable semantics of the language: an interpreter of checked programs in float64 on plain numpy.

It reads the syntax tree and uses neither the compiler's graph nor torch. It only follows
``docs/semantics.md``. It is slow, small and plain, and the tests compare models with it.

``tape`` computes gradients, ``functions`` has the operations, ``equations`` neurons and surrogates, and
``language`` the expressions. ``network`` combines them. ``training`` has the arithmetic of a recipe.
"""
