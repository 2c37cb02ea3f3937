"""Generated and mutated specs, each built, run and trained, and held against the interpreter.

``python -m tests.fuzzing`` (``make fuzz``) runs for a time that is given; ``tests/test_fuzzing.py``
runs a fixed number of cases.
"""
