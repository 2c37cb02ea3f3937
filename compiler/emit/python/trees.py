"""Syntax trees in short, and their text in lines that are not too long."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping, Sequence

from danetc.compiler.emit.names import attribute
from danetc.compiler.emit.python.names import is_plain
from danetc.compiler.ir.graph import Attribute

WIDTH = 100


def name(text: str) -> ast.expr:
    """A name, or a dotted one: ``torch.cat``."""
    first, *rest = text.split(".")
    node: ast.expr = ast.Name(first, ast.Load())
    for part in rest:
        node = ast.Attribute(node, part, ast.Load())
    return node


def constant(value: Attribute | tuple[int, int]) -> ast.expr:
    """A constant; a string is data in it, whatever it holds."""
    if isinstance(value, tuple):
        return ast.Tuple([ast.Constant(item) for item in value], ast.Load())
    return ast.Constant(value)


def call(target: ast.expr, *args: ast.expr, **keywords: ast.expr) -> ast.Call:
    """A call."""
    return ast.Call(target, list(args), [ast.keyword(key, item) for key, item in keywords.items()])


def method(base: ast.expr, attr: str, *args: ast.expr) -> ast.Call:
    """A call of a method."""
    return call(ast.Attribute(base, attr, ast.Load()), *args)


def loop(items: Sequence[str], over: ast.expr, body: list[ast.stmt]) -> ast.For:
    """``for a, b in over:``."""
    target = ast.Name(", ".join(items), ast.Store())  # a tuple would be written in brackets
    return ast.For(target, over, body, [], lineno=0)


def sequence(items: Sequence[ast.expr]) -> ast.expr:
    """Several values side by side, or the one."""
    return items[0] if len(items) == 1 else ast.Tuple(list(items), ast.Load())


def assign(targets: Sequence[str], value: ast.expr) -> ast.stmt:
    """``a, b = value``; a bare expression where there are no targets."""
    if not targets:
        return ast.Expr(value)
    made = sequence([ast.Name(target, ast.Store()) for target in targets])
    return ast.Assign([made], value, lineno=0)


def template(text: str, **parts: ast.expr) -> ast.expr:
    """The expression that ``text``, which is ours, makes of the parts that it names."""
    return _Filled(parts).visit(ast.parse(text, mode="eval").body)  # type: ignore[no-any-return]


class _Filled(ast.NodeTransformer):
    def __init__(self, parts: Mapping[str, ast.expr]) -> None:
        self.parts = parts

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.parts.get(node.id, node)


def function(
    title: str,
    parameters: Sequence[tuple[str, str, ast.expr | None]],
    result: str,
    body: list[ast.stmt],
) -> ast.FunctionDef:
    """A function or method. A parameter is a name, its type ("" for none) and its default."""
    args = [ast.arg(label, name(kind) if kind else None) for label, kind, _ in parameters]
    defaults = [default for _, _, default in parameters if default is not None]
    arguments = ast.arguments(
        posonlyargs=[], args=args, kwonlyargs=[], kw_defaults=[], defaults=defaults
    )
    returns = ast.parse(result, mode="eval").body if result else None
    return ast.FunctionDef(
        name=title, args=arguments, body=body, decorator_list=[], returns=returns
    )


def class_(title: str, bases: Sequence[str], doc: str, body: list[ast.stmt]) -> ast.ClassDef:
    """A class with a docstring."""
    return ast.ClassDef(
        name=title,
        bases=list(map(name, bases)),
        keywords=[],
        body=[ast.Expr(ast.Constant(doc)), *body],
        decorator_list=[],
    )


def child(holder: ast.expr, part: str) -> ast.expr:
    """What reads the child ``part`` (as in the spec) of ``holder``."""
    if part.isdecimal() and part.isascii():
        return ast.Subscript(holder, ast.Constant(int(part)), ast.Load())
    part = attribute(part)
    if is_plain(part):
        return ast.Attribute(holder, part, ast.Load())
    return call(name("getattr"), holder, ast.Constant(part))


# -- text -----------------------------------------------------------------------------------------


def text_of(node: ast.stmt) -> str:
    """The text of a class or function: ASCII, in lines of at most ``WIDTH`` where they can be."""
    lines = [
        line if '"' in line else line.replace("'", '"')  # each ' there begins or ends a string
        for line in _lines(node, "")
    ]
    text = "\n".join(lines)
    return text.encode("ascii", "backslashreplace").decode()  # beyond ASCII are strings alone


def _lines(node: ast.stmt, indent: str) -> Iterator[str]:
    inner = f"{indent}    "
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.For() | ast.If():
            yield from _head(node, indent)
            for index, item in enumerate(node.body):
                if index and isinstance(node, ast.ClassDef):
                    yield ""
                yield from _lines(item, inner)
        case ast.Expr(ast.Constant(str(doc))):
            first, *rest = f'"""{doc}"""'.split("\n")
            yield f"{indent}{first}"
            yield from (f"{indent}{line}" if line else "" for line in rest)
        case ast.Assign(targets=[target]):
            parts = getattr(target, "elts", [])
            made = ", ".join(map(ast.unparse, parts)) if len(parts) > 1 else ast.unparse(target)
            if isinstance(node.value, ast.Tuple) and len(node.value.elts) > 1:
                yield f"{indent}{made} = {', '.join(map(ast.unparse, node.value.elts))}"
                return
            yield from _expression(f"{indent}{made} = ", node.value, "", indent)
        case ast.Return(value=ast.Tuple() as value):
            yield f"{indent}return {', '.join(map(ast.unparse, value.elts))}"
        case ast.Return(value=ast.expr() as value):
            yield from _expression(f"{indent}return ", value, "", indent)
        case ast.Expr(value=value):
            yield from _expression(indent, value, "", indent)
        case _:
            yield f"{indent}{ast.unparse(node)}"


def _head(node: ast.ClassDef | ast.FunctionDef | ast.For | ast.If, indent: str) -> Iterator[str]:
    match node:
        case ast.ClassDef():
            yield f"{indent}class {node.name}({', '.join(map(ast.unparse, node.bases))}):"
        case ast.For():
            yield f"{indent}for {ast.unparse(node.target)} in {ast.unparse(node.iter)}:"
        case ast.If():
            yield f"{indent}if {ast.unparse(node.test)}:"
        case ast.FunctionDef():
            yield from _signature(node, indent)


def _signature(node: ast.FunctionDef, indent: str) -> Iterator[str]:
    result = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    arguments = ", ".join(_parameters(node.args))
    line = f"{indent}def {node.name}({arguments}){result}:"
    if len(line) <= WIDTH:
        yield line
        return
    yield f"{indent}def {node.name}("
    inner = f"{indent}    "
    one = f"{inner}{arguments}"
    yield from [one] if len(one) <= WIDTH else _filled(f"{arguments},", inner)
    yield f"{indent}){result}:"


def _parameters(args: ast.arguments) -> Iterator[str]:
    bare = len(args.args) - len(args.defaults)
    for index, arg in enumerate(args.args):
        kind = f": {ast.unparse(arg.annotation)}" if arg.annotation is not None else ""
        default = ast.unparse(args.defaults[index - bare]) if index >= bare else ""
        yield f"{arg.arg}{kind}{' = ' if default else ''}{default}"


def _expression(head: str, node: ast.expr, tail: str, indent: str) -> Iterator[str]:
    """``head``, an expression and ``tail``: broken inside of its outermost brackets if too long."""
    text = ast.unparse(node)
    inner = f"{indent}    "
    if len(head) + len(text) + len(tail) <= WIDTH:
        yield head + text + tail
        return
    match node:
        case ast.Call(args=[(ast.List() | ast.GeneratorExp()) as only], keywords=[]):
            if isinstance(only, ast.GeneratorExp):
                yield from _expression(f"{head}{ast.unparse(node.func)}", only, tail, indent)
                return
            yield from _expression(f"{head}{ast.unparse(node.func)}(", only, f"){tail}", indent)
        case ast.Call() if node.args or node.keywords:
            start = f"{ast.unparse(node.func)}("
            arguments = text[len(start) : -1]
            if text.startswith(start) and len(inner) + len(arguments) <= WIDTH:
                yield from (f"{head}{start}", f"{inner}{arguments}", f"{indent}){tail}")
                return
            yield f"{head}{ast.unparse(node.func)}("
            for item in node.args:
                yield from _expression(inner, item, ",", inner)
            for keyword in node.keywords:
                start = f"{keyword.arg}=" if keyword.arg else "**"
                yield from _expression(f"{inner}{start}", keyword.value, ",", inner)
            yield f"{indent}){tail}"
        case ast.List() if all(isinstance(item, ast.Name) for item in node.elts):
            yield f"{head}["
            yield from _filled(f"{text[1:-1]},", inner)
            yield f"{indent}]{tail}"
        case ast.List():
            yield f"{head}["
            for item in node.elts:
                yield from _expression(inner, item, ",", inner)
            yield f"{indent}]{tail}"
        case ast.GeneratorExp(generators=[loop]):
            yield f"{head}("
            yield from _expression(inner, node.elt, "", inner)
            yield f"{inner}for {ast.unparse(loop.target)} in {ast.unparse(loop.iter)}"
            yield f"{indent}){tail}"
        case ast.Starred():
            yield from _expression(f"{head}*", node.value, tail, indent)
        case ast.BinOp() if not any(
            isinstance(part, ast.Constant) and isinstance(part.value, str)
            for part in ast.walk(node)
        ):
            yield f"{head}("
            yield from _filled(text, inner)
            yield f"{indent}){tail}"
        case _:
            yield head + text + tail


def _filled(text: str, indent: str) -> list[str]:
    """A text without strings, broken at its spaces."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
