"""Generated and mutated specs are built, run, trained and compared with the interpreter.

``python -m tests.fuzzing`` (``make fuzz``) runs for a given time; ``tests/test_fuzzing.py``
runs a fixed number of cases.
"""
