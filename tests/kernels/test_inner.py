"""What is compiled without a wrapper for Python is called by compiled functions only."""

import ast
from pathlib import Path

import pytest

from manyviews import kernels

FILES = sorted(Path(kernels.__file__).parent.glob("*.py"))


def decorator(node: ast.AST) -> str:
    """The first of a function, as it is written."""
    return ast.unparse(node.decorator_list[0]) if getattr(node, "decorator_list", None) else ""


def inner_functions(path: Path) -> set[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if decorator(node).startswith("inner(")}


def names_outside(node: ast.AST) -> set[str]:
    """What is named in the code of Python, not in functions that are compiled."""
    found = set()
    for child in ast.iter_child_nodes(node):
        if decorator(child).startswith(("njit(", "inner(")):
            continue
        if isinstance(child, ast.Name):
            found.add(child.id)
        elif isinstance(child, ast.Attribute):
            found.add(child.attr)
        found |= names_outside(child)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_python_names_no_inner_function(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unwrapped = inner_functions(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("manyviews.kernels."):
            own = inner_functions(Path(kernels.__file__).with_name(node.module.split(".")[-1] + ".py"))
            unwrapped |= own & {alias.name for alias in node.names}
    assert not unwrapped & names_outside(tree)


def test_inner_functions_are_found_and_a_call_from_python_would_be():
    path = Path(kernels.__file__).with_name("warp_cpu.py")
    assert "pull_padded" in inner_functions(path)
    called = ast.parse("@njit()\ndef f():\n    push_padded()\n\ndef g():\n    pull_padded()\n")
    assert names_outside(called) == {"pull_padded"}
