"""Equations of neurons, surrogates, rules, connections and blocks as MathML, which browsers render
without a script."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from latex2mathml.converter import convert

from danetc.compiler.draw.notation import GREEK
from danetc.dsl.syntax import tree as s

FUNCTIONS = {"exp": r"\exp", "log": r"\log", "tanh": r"\tanh", "sin": r"\sin", "cos": r"\cos", "min": r"\min", "max": r"\max", "sigmoid": r"\sigma", "heaviside": r"\Theta", "erf": r"\operatorname{erf}"}  # fmt: skip
SIGNS = {"==": "=", "!=": r"\neq", "<=": r"\leq", ">=": r"\geq", "<": "<", ">": ">", "and": r"\land", "or": r"\lor"}  # fmt: skip
TIGHT = {"or": 0, "and": 1, "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "+": 4, "-": 4, "*": 5, "/": 9, "->": 2}  # fmt: skip


def mathml(declaration: s.Declaration) -> str:
    """Return the equations of a declaration, one per line."""
    lines = [convert(line, display="block") for line in latex(declaration)]
    return "".join(f"<div>{line}</div>" for line in lines)


def latex(declaration: s.Declaration) -> Iterator[str]:
    """Return each equation as LaTeX.

    In a neuron, values that change have a time step: a state that is read before its line has that of
    the previous step.
    """
    body = declaration.body or ()
    if declaration.value is not None:
        yield f"{name_of(declaration.name)} = {_Writer().expr(declaration.value)}"
    if declaration.kind != "neuron":
        for item in body:
            if isinstance(item, s.Define):
                yield f"{_Writer().left(item)} = {_Writer().expr(item.value)}"
        return
    writer = _Writer(steps={"x": "[t]"})
    writer.steps |= {item.name: "[t-1]" for item in body if isinstance(item, s.State)}
    for item in body:
        match item:
            case s.State(name, value):
                yield f"{name_of(name)}[{{-1}}] = {writer.expr(value)}"
            case s.Define(name, _, value):
                right = writer.expr(value)
                varies = any(
                    isinstance(node, s.Name) and node.id in writer.steps for node in s.walk(value)
                )
                if varies or name in writer.steps:
                    writer.steps[name] = "[t]"
                yield f"{name_of(name)}{writer.steps.get(name, '')} = {right}"
            case s.Group():
                raise ValueError("a neuron has no groups")
            case _:
                assert_never(item)


def name_of(name: str) -> str:
    """Return a name with Greek letters, and the part after `_` as a subscript."""
    first, _, below = name.partition("_")
    shown = f"\\{first}" if first in GREEK else first if len(first) == 1 else f"\\mathrm{{{first}}}"
    below = below.replace("_", r"\,")
    return f"{shown}_{{\\mathrm{{{below}}}}}" if below else shown


class _Writer:
    """Writer of expressions as LaTeX. ``steps`` maps the names that have a time step."""

    def __init__(self, steps: dict[str, str] | None = None) -> None:
        self.steps = {} if steps is None else steps

    def left(self, item: s.Define) -> str:
        if item.name == "dy":
            return r"\frac{dy}{dx}"
        index = "" if item.index is None else f"_{{{self.expr(item.index)}}}"
        return name_of(item.name) + index

    def expr(self, expr: s.Node, tight: int = 0) -> str:
        """Return an expression, in parentheses if its precedence is lower than ``tight``."""
        match expr:
            case s.Name(id) | s.Word(id):
                return r"\pi" if id == "pi" else name_of(id) + self.steps.get(id, "")
            case s.Number(text):
                return text
            case s.String(value):
                return f"\\text{{{value}}}"
            case s.Binary("/", left, right):
                return f"\\frac{{{self.expr(left)}}}{{{self.expr(right)}}}"
            case s.Binary(op, left, right):
                sign = r"\cdot" if op == "*" else SIGNS.get(op, op)
                bound = TIGHT[op]
                text = f"{self.expr(left, bound)} {sign} {self.expr(right, bound + (op == '-'))}"
                return f"\\left({text}\\right)" if bound < tight else text
            case s.Unary(op, value):
                text = ("-" if op == "-" else r"\lnot ") + self.expr(value, 5)
                return f"\\left({text}\\right)" if tight > 4 else text
            case s.IfElse(then, condition, otherwise):
                rows = (
                    f"{self.expr(then)} & \\text{{if }} {self.expr(condition)}",
                    f"{self.expr(otherwise)} & \\text{{else}}",
                )
                return f"\\begin{{cases}} {rows[0]} \\\\ {rows[1]} \\end{{cases}}"
            case s.Call(function, args):
                return self.call(function, args)
            case s.At(base, indices):
                return f"{self.expr(base)}_{{{', '.join(self.expr(item) for item in indices)}}}"
            case s.Range(low, high):
                return f"{self.expr(low)} \\ldots {self.expr(high)}"
            case s.Arg(name, value):
                return (f"{name_of(name)} = " if name else "") + self.expr(value)
            case s.Flow(steps):
                text = r" \to ".join(self.expr(step, TIGHT["*"] + 1) for step in steps)
                return f"\\left({text}\\right)" if TIGHT["->"] < tight else text
            case _:
                raise ValueError(f"no equation has {type(expr).__name__}")

    def call(self, function: s.Node, args: tuple[s.Node, ...]) -> str:
        name = function.id if isinstance(function, s.Name) else ""
        if name == "sqrt":
            return f"\\sqrt{{{self.expr(args[0])}}}"
        if name == "abs":
            return f"\\left|{self.expr(args[0])}\\right|"
        if name == "sum" and len(args) == 1 and (one := self.summed(args[0])) is not None:
            return one
        shown = FUNCTIONS.get(name, f"\\operatorname{{{name}}}")
        return f"{shown}\\left({', '.join(self.expr(arg) for arg in args)}\\right)"

    def summed(self, arg: s.Node) -> str | None:
        """Return a sum over a range: of `out[a .. b]`, or of a value for each j."""
        value = arg.value if isinstance(arg, s.Arg) else arg
        if isinstance(value, s.At) and len(value.indices) == 1:
            index = value.indices[0]
            if isinstance(index, s.Range):
                return f"{self.over('j', index.low, index.high)} {self.expr(value.base)}_{{j}}"
        if isinstance(value, s.Each):
            over = self.over(value.variable, value.low, value.high, value.condition)
            return f"{over} {self.expr(value.value, 5)}"
        return None

    def over(self, name: str, low: s.Node, high: s.Node, condition: s.Node | None = None) -> str:
        said = "" if condition is None else f",\\; {self.expr(condition)}"
        return f"\\sum_{{{name} = {self.expr(low)}{said}}}^{{{self.expr(high)}}}"
