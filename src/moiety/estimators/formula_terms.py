"""What a formula may say: names of columns and a few transforms of them, and no other code.

formulaic evaluates the factors of a formula as Python. A formula may come from a file, so every
factor is looked at first; what is not known here is refused and never evaluated.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from moiety.core.extras import import_extra

TRANSFORMS = ("log", "log2", "log10", "exp", "sqrt", "center", "scale", "poly", "bs", "cr", "cc",
              "s", "C", "I", "offset", "shared")  # fmt: skip
SHARED = "shared("  # how a term begins whose slopes all experts share
LARGEST_POWER = 10
REMEDY = f"use names of columns, numbers, and {', '.join(TRANSFORMS)}"


@dataclass(frozen=True)
class FormulaTerms:
    """A formula taken apart: ``response ~ mean | gate``.

    Args:
        response: the name of a column.
        mean: terms of the experts, as text.
        gate: terms of the gate, as text; None where they are those of the experts.
        offset: the term whose coefficient is 1, as text.
    """

    response: str
    mean: str
    gate: str | None
    offset: str | None


def split_formula(text: str) -> FormulaTerms:
    """Take a formula apart and refuse what it may not say.

    Args:
        text: ``"y ~ x + s(z) | w"``: the experts' part, and after the bar the gate's.

    Raises:
        ValueError: for any other form, or for a factor that is not known.
    """
    if not isinstance(text, str) or text.count("~") != 1 or text.count("|") > 1:
        raise ValueError(f"formula={text!r} is not known; write 'y ~ x + z', or 'y ~ x + z | w'")
    left, right = text.split("~")
    response, (mean, _, gate) = left.strip(), right.partition("|")
    if not response.isidentifier():
        raise ValueError(
            f"formula={text!r}: the response is the name of a column, not {left!r}; make the "
            "column first"
        )
    offset = check_part(mean, response)
    if "|" in right and check_part(gate, response) is not None:
        raise ValueError(f"formula={text!r}: an offset is of the experts; put it before the bar")
    if SHARED in gate.replace(" ", ""):
        raise ValueError(f"formula={text!r}: the gate shares nothing; put shared() before the bar")
    return FormulaTerms(response, mean.strip(), gate.strip() if "|" in right else None, offset)


def check_part(text: str, response: str) -> str | None:
    """Check the terms of one part, and give the offset among them, if any."""
    if not text.strip():
        raise ValueError(
            "formula: a part has no terms; write 1 for a constant: 'y ~ 1', 'y ~ x | 1'"
        )
    formulaic = import_extra("formulaic", "a formula", "formulas")
    try:
        terms = list(formulaic.Formula(text))
    except (formulaic.errors.FormulaicError, SyntaxError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"formula: {text.strip()!r} cannot be read ({reason}); {REMEDY}"
        ) from error
    offsets, constant = [], False
    for term in terms:
        factors = [factor.expr for factor in term.factors]
        constant = constant or factors == ["1"]
        for factor in factors:
            check_factor(factor, response)
        held = [factor for factor in factors if factor.startswith(("offset(", SHARED))]
        if held and len(factors) > 1:
            raise ValueError(f"formula: {held[0]} stands alone; {term} is an interaction")
        offsets += [factor for factor in held if factor.startswith("offset(")]
    if not constant:
        raise ValueError(
            f"formula: {text.strip()!r} has no intercept, which all parts have here; leave out "
            "'- 1' or '0 +'"
        )
    if len(offsets) > 1:
        raise ValueError(f"formula: {offsets} are several offsets; write their sum as one")
    return offsets[0] if offsets else None


def check_factor(factor: str, response: str) -> None:
    """Refuse a factor that is more than names, numbers and known transforms, or the response."""
    try:
        tree = ast.parse(factor, mode="eval").body
    except SyntaxError:
        raise ValueError(f"formula: {factor!r} cannot be read; {REMEDY}") from None
    if not is_harmless(tree):
        raise ValueError(f"formula: {factor!r} is not allowed; {REMEDY}")
    if response in find_names(factor):
        raise ValueError(f"formula: the response {response!r} explains itself; leave it out")


def is_harmless(node: Any) -> bool:
    """Tell whether an expression holds names, numbers and known transforms alone.

    >>> is_harmless(ast.parse("bs(z, df=4)", mode="eval").body)
    True
    >>> is_harmless(ast.parse("z.mean()", mode="eval").body)
    False
    """
    if isinstance(node, ast.Name):
        return not node.id.startswith("_")
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (int, float, str))
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and is_harmless(node.operand)
    if isinstance(node, ast.BinOp):
        return is_harmless_operation(node)
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and node.func.id in TRANSFORMS
        named = all(one.arg is not None and is_harmless(one.value) for one in node.keywords)
        return known and named and all(map(is_harmless, node.args))
    return False


def find_names(factor: str) -> set[str]:
    """Give the columns that a factor names.

    >>> sorted(find_names("bs(z, df=4)")), sorted(find_names("1"))
    (['z'], [])
    """
    nodes = list(ast.walk(ast.parse(factor, mode="eval")))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    return {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in called}


def is_harmless_operation(node: ast.BinOp) -> bool:
    """Tell whether arithmetic is of columns: of numbers alone it may take for ever."""
    if isinstance(node.op, ast.Pow):
        power = node.right.value if isinstance(node.right, ast.Constant) else None
        if not isinstance(power, (int, float)) or abs(power) > LARGEST_POWER:
            return False
    elif not isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div)):
        return False
    of_columns = any(isinstance(part, ast.Name) for part in ast.walk(node))
    return of_columns and is_harmless(node.left) and is_harmless(node.right)
