"""The rules of the house, read from the source: who imports whom, what is never used, how long files are."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import inspect
import pkgutil
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manyviews.api.names import HOMES

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src" / "manyviews"
# A room imports only from itself and from rooms before it: docs/decisions/0001-rooms.md.
ROOMS = (
    "errors",
    "options",
    "random",
    "parallel",
    "geometry",
    "kernels",
    "operators",
    "solvers",
    "io",
    "metrics",
    "alignment",
    "maps",
    "simulate",
    "runs",
    "report",
    "jobs",
    "compare",
    "tilt",
    "subtomo",
    "nano",
    "particles",
    "api",
    "doctor",
    "serve",
    "cli",
)
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "yaml.load", "torch.load", "torch.save", "os.system", "os.popen"}
FORBIDDEN_TRUE_KEYWORDS = {"shell", "allow_pickle"}
# What knows no job serves every job: no word of one stands there, not even in a comment.
JOBLESS_ROOMS = ("report", "runs")
JOB_WORDS = re.compile(
    r"tilt|particle|ab.?initio|subtomo|tomogra|\bnano\b|sagd|stochastic|consensus|wang|sirt|\b(cg|wbp|em|ncc)\b",
    re.IGNORECASE,
)
# Random numbers come from streams by name: `manyviews.random`.
FORBIDDEN_RANDOMNESS = re.compile(
    r"\b(default_rng|SeedSequence|manual_seed|RandomState|PCG64|torch\.rand\w*|np\.random\.(?!Generator\b)\w+)\b"
    r"|^\s*(import random|from random import)\b"
)
LONGEST_FILE = 500
LONGEST_INIT = 20
LONGEST_FUNCTION = 60
LOOKED_AT = (ast.Import, ast.ImportFrom, ast.Call, ast.FunctionDef, ast.AsyncFunctionDef)
# Spelt in pieces, so that this file does not find itself.
MACHINE_PATHS = re.compile("|".join("/" + name + r"\b/?" for name in ("work", "root", "home", "Users")))

SOURCES = sorted(PACKAGE.rglob("*.py"))
ALL_PYTHON = [
    path
    for folder in ("src", "tests", "benchmarks", "examples")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
]


def relative(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def of_each(paths: list[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Check every file in one test, which tells of all that fail: thousands of tests take their time."""

    def told(check: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            failed = []
            for path in paths:
                try:
                    check(path)
                except AssertionError as error:
                    failed.append(f"{relative(path)}: {error}")
            assert not failed, "\n".join(failed)

        return test

    return told


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """Those of `LOOKED_AT`, in the order of `ast.walk`, which takes longer than all the tests."""
    return [node for node in ast.walk(parse(path)) if isinstance(node, LOOKED_AT)]


def imported_modules(path: Path, root: Path = PACKAGE) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported, inside functions too; ``root`` is the package's folder."""
    package = ("manyviews", *path.relative_to(root).parent.parts) if path.is_relative_to(root) else ()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def room_of(module: str) -> str | None:
    """The room of a dotted name, None outside the package and for the package itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "manyviews" and len(parts) > 1 and parts[1] != "__version__" else None


def dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def repository_files() -> list[Path]:
    """Files of the repository: what git tracks or would add; everything readable where git is absent."""
    command = ["git", "-C", str(REPOSITORY), "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        return ALL_PYTHON
    return [path for name in listed if name and (path := REPOSITORY / name).is_file()]


def test_every_room_is_in_the_list():
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in SOURCES} - {"__init__"}
    assert found <= set(ROOMS), f"give {sorted(found - set(ROOMS))} a place in ROOMS"


@of_each(SOURCES)
def test_imports_point_upwards_only(path: Path):
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    # the package itself names what the api offers, and loads none of it: see the next test
    allowed = ("errors", "api") if own == "__init__" else ROOMS[: ROOMS.index(own) + 1]
    wrong = [
        f"line {line}: {own} imports {name}"
        for line, name in imported_modules(path)
        if (room := room_of(name)) is not None and room not in allowed
    ]
    assert not wrong


def test_the_package_loads_nothing_but_its_names():
    """For type checkers it imports the names from where ``names`` finds them; at run time that file alone."""
    package = parse(PACKAGE / "__init__.py")
    conditions = [node for node in package.body if isinstance(node, ast.If)]
    assert [dotted(node.test) for node in conditions] == ["TYPE_CHECKING"]
    shown = {id(node): node for node in conditions[0].body if isinstance(node, ast.ImportFrom)}
    assert len(shown) == len(conditions[0].body)
    assert {alias.name: node.module for node in shown.values() for alias in node.names} == HOMES
    imports = [node for node in ast.walk(package) if isinstance(node, ast.Import | ast.ImportFrom)]
    loaded = [ast.unparse(node) for node in imports if id(node) not in shown]
    assert loaded == [
        "from typing import TYPE_CHECKING",
        "from manyviews.api.names import __dir__, __getattr__",
    ]
    assert not [name for _, name in imported_modules(PACKAGE / "api" / "names.py") if room_of(name)]
    assert not list(imported_modules(PACKAGE / "api" / "__init__.py"))


def test_the_import_test_sees_relative_and_local_imports(tmp_path: Path):
    (tmp_path / "io").mkdir()
    module = tmp_path / "io" / "bad.py"
    module.write_text("def f():\n    from ..runs import folder\n    import manyviews.cli.main\n")
    names = [name for _, name in imported_modules(module, tmp_path)]
    assert [room_of(name) for name in names] == ["runs", "runs", "cli"]


@of_each([path for room in JOBLESS_ROOMS for path in sorted((PACKAGE / room).rglob("*.py"))])
def test_rooms_that_know_no_job(path: Path):
    lines = path.read_text(encoding="utf-8").splitlines()
    wrong = [
        f"line {number}: {line.strip()}" for number, line in enumerate(lines, 1) if JOB_WORDS.search(line)
    ]
    assert not wrong, "a job hands this over"


@of_each(ALL_PYTHON)
def test_nothing_unsafe_and_no_star(path: Path):
    wrong = [
        f"line {line}: import {name}"
        for line, name in imported_modules(path)
        if name.split(".")[0] in FORBIDDEN_MODULES or name.endswith(".*")
    ]
    for node in nodes(path):
        if not isinstance(node, ast.Call):
            continue
        if dotted(node.func) in FORBIDDEN_CALLS:
            wrong.append(f"line {node.lineno}: {dotted(node.func)}")
        wrong += [
            f"line {node.lineno}: {keyword.arg}=True"
            for keyword in node.keywords
            if keyword.arg in FORBIDDEN_TRUE_KEYWORDS and is_true(keyword.value)
        ]
    assert not wrong


@of_each([path for path in SOURCES if path != PACKAGE / "random.py"])
def test_random_numbers_come_from_streams_by_name(path: Path):
    lines = path.read_text(encoding="utf-8").splitlines()
    wrong = [
        f"line {number}: {line.strip()}"
        for number, line in enumerate(lines, 1)
        if FORBIDDEN_RANDOMNESS.search(line)
    ]
    assert not wrong, "use manyviews.random.generator"


@of_each(ALL_PYTHON)
def test_files_are_short(path: Path):
    limit = LONGEST_INIT if path.name == "__init__.py" else LONGEST_FILE
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length < limit, f"{length} lines: split it where it has two reasons to change"


def test_every_file_that_fails_is_told():
    @of_each([PACKAGE / "errors.py", PACKAGE / "random.py"])
    def check(path: Path):
        assert path.suffix == ".toml", "no table"

    with pytest.raises(AssertionError, match=r"(?s)errors\.py: no table.*random\.py: no table"):
        check()


def test_test_files_have_unique_names():
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)


def test_no_path_of_any_one_machine():
    wrong = []
    for path in repository_files():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # a picture
        wrong += [
            f"{relative(path)}:{number}"
            for number, line in enumerate(lines, start=1)
            if MACHINE_PATHS.search(line)
        ]
    assert not wrong


def test_every_dependency_is_pinned():
    """Except triton: each CUDA build of torch asks for its own."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["test"],
        *project["optional-dependencies"]["docs"],
    ]
    names = {re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in wanted} - {"triton"}
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert names <= {line.split("==")[0] for line in lines}


def test_every_operator_is_registered():
    from manyviews import operators
    from manyviews.operators.linear import LinearOperator, registered_operators

    tested = {type(make(case)) for make in registered_operators().values() for case in range(3)}
    classes = set()
    for module in pkgutil.iter_modules(operators.__path__, "manyviews.operators."):
        for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(found, LinearOperator) and not inspect.isabstract(found):
                classes.add(found)
    untested = {found.__name__ for found in classes if not any(issubclass(t, found) for t in tested)}
    assert not untested, f"register {sorted(untested)} so that the dot test sees them"


def own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    documented = ast.get_docstring(function, clean=False) is not None
    text = function.body[0]
    skipped = (text.end_lineno or text.lineno) - text.lineno + 1 if documented else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - skipped


@of_each(SOURCES)
def test_functions_are_short(path: Path):
    long = [
        f"{node.name}: {own_lines(node)} lines"
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and own_lines(node) > LONGEST_FUNCTION
    ]
    assert not long


def module_name(path: Path) -> str:
    parts = ("manyviews", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_module_imports_itself_by_a_detour():
    modules = {module_name(path): path for path in SOURCES}
    imports = {
        name: {other for _, other in imported_modules(path) if other in modules and other != name}
        for name, path in modules.items()
        if name != "manyviews"  # which names what it offers to others, and loads it when it is asked for
    }
    graph = graphlib.TopologicalSorter(imports)
    try:
        graph.prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")
