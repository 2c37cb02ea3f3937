"""Equations of neurons and surrogates to programs: values, derivatives, ranges, kernel text."""
