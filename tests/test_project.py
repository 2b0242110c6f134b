"""The house rules, checked on the source: floors, sizes, names, documentation, the four files of a method, start-up."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

from fairlead import catalog, fields

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "fairlead"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [*MODULES, *(p for room in ("benchmarks", "docs", "examples", "tests") for p in (ROOT / room).rglob("*.py"))]

STAGES = ("decoding", "evaluation", "selection", "synthesis", "training")
FLOORS = (
    ("errors", "fields", "catalog", "messages", "rewrites", "prompts", "estimates", "figures", "plateau", "verdicts"),
    ("harbor", "theory"),
    ("records", "render", "models"),
    ("forward",),
    ("engines",),
    ("rewards",),
    STAGES,
    ("loops",),
    ("recipe", "run", "runs", "report", "steps"),
    ("cli", "serve"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def every(paths):
    return pytest.mark.parametrize("path", paths, ids=name_of)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def room_of(dotted: str) -> str | None:
    """Return the room of a module of the package; None for the package itself and for other packages."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "fairlead" and len(parts) > 1 else None


def dotted_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> list[tuple[int, str]]:
    """Return (line, module) of every import in a file, those inside functions included."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: write imports absolutely"
            module = node.module or ""
            found += [(node.lineno, f"{module}.{alias.name}") for alias in node.names]
    return found


def public_names(tree: ast.Module) -> list[str]:
    """Return the functions and classes of a module that do not hide behind an underscore.

    Constants and type aliases may be shared inside a room without being listed.
    """
    defined = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    return [node.name for node in defined if not node.name.startswith("_")]


def exported(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return ast.literal_eval(node.value)
    return None


def is_dataclass(node: ast.ClassDef) -> bool:
    called = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    return any(isinstance(d, ast.Name) and d.id == "dataclass" for d in called)


def is_field(node: ast.stmt) -> bool:
    """Tell public fields from class variables, which are documented by the contract that asks for them."""
    if not isinstance(node, ast.AnnAssign) or node.target.id.startswith("_"):
        return False
    return not ast.unparse(node.annotation).startswith("ClassVar")


# --- floors -----------------------------------------------------------------------------------------------------------


def test_every_room_has_a_floor():
    rooms = {room for path in MODULES if (room := room_of(dotted_of(path)))}
    assert rooms <= set(FLOOR_OF), f"give these a floor here and in docs/design.md: {sorted(rooms - set(FLOOR_OF))}"


@every(MODULES)
def test_imports_never_climb(path):
    own = room_of(dotted_of(path))
    if own is None:
        pytest.skip("the package's own names are imported lazily from every floor")
    for line, module in imports_of(path):
        other = room_of(module)
        if other is None or other == own or other not in FLOOR_OF:
            continue
        place = f"{name_of(path)}:{line}: {own} imports {module}"
        assert FLOOR_OF[other] <= FLOOR_OF[own], f"{place}, which is a floor above"
        assert not (own in STAGES and other in STAGES), f"{place}: stage rooms do not import each other"


# --- sizes and style --------------------------------------------------------------------------------------------------


@every(SOURCES)
def test_files_and_functions_are_short(path):
    limit = 600 if path.is_relative_to(ROOT / "tests") else 400
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= limit, f"{name_of(path)} has {lines} lines, at most {limit} are read in one sitting: split it"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{name_of(path)}:{node.lineno}: {node.name} has {length} lines, at most 60"


@every(SOURCES)
def test_no_bare_except(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{name_of(path)}:{node.lineno}: say which error is expected"


@every([path for path in SOURCES if not path.is_relative_to(ROOT / "tests")])
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(tree_of(path)), f"{name_of(path)} has no docstring"


@every(MODULES)
def test_all_is_complete_and_sorted(path):
    tree = tree_of(path)
    names, listed = public_names(tree), exported(tree)
    if listed is None:
        assert not names, f"{name_of(path)} defines {names} and has no __all__"
        return
    assert listed == sorted(listed, key=lambda n: (not n.isupper(), not n[0].isupper(), n)), f"sort {name_of(path)}"
    assert len(set(listed)) == len(listed)
    missing = [name for name in names if name not in listed]
    assert not missing, f"{name_of(path)}: {missing} are public and not in __all__ (or start them with an underscore)"


def test_all_of_the_package_can_be_imported():
    import importlib

    for path in MODULES:
        if path.name != "__main__.py" and "vision" not in path.parts and "protein" not in path.parts:
            module = importlib.import_module(dotted_of(path))
            for name in getattr(module, "__all__", []):
                assert getattr(module, name) is not None, f"{module.__name__}.{name}"


@every(MODULES)
def test_public_names_are_documented(path):
    tree = tree_of(path)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name_of(path)}:{node.lineno}: {node.name} has no docstring"
            if isinstance(node, ast.ClassDef):
                _check_members(path, node)


def _check_members(path: Path, cls: ast.ClassDef) -> None:
    for place, node in enumerate(cls.body):
        where = f"{name_of(path)}:{node.lineno}: {cls.name}"
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{where}.{node.name} has no docstring"
        elif is_dataclass(cls) and is_field(node):
            after = cls.body[place + 1] if place + 1 < len(cls.body) else None
            documented = isinstance(after, ast.Expr) and isinstance(getattr(after.value, "value", None), str)
            assert documented, f"{where}.{node.target.id} has no text under it"


@every(MODULES)
def test_public_functions_are_typed(path):
    for node in tree_of(path).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            untyped = [a.arg for a in arguments if a.annotation is None]
            assert not untyped, f"{name_of(path)}:{node.lineno}: {node.name} does not type {untyped}"


@every(SOURCES)
def test_nothing_is_left_to_do(path):
    marks = re.compile(r"#.*\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"]) + r")\b")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        assert not marks.search(line), f"{name_of(path)}:{number}: do it or leave it out"


def test_no_machine_paths():
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    path = re.compile(r"(?<![\w.:/-])/(?:work|root|home|opt|Users|tmp)/\w")
    for name in listed.stdout.split("\n"):
        file = ROOT / name
        if not name or not file.is_file() or file.suffix in {".png", ".safetensors", ".gz", ".parquet"}:
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            assert not path.search(line), f"{name}:{number} names a path of one machine: {line.strip()[:80]}"


# --- the four files of a method ---------------------------------------------------------------------------------------

METHODS = pytest.mark.parametrize("entry", catalog.ENTRIES, ids=lambda e: f"{e.kind}-{e.name}")


def named_in(value: object, name: str) -> bool:
    """Tell whether parsed YAML uses a method: as `name:` of a mapping, or as the plain name in a list or field."""
    if isinstance(value, dict):
        return any(named_in(inner, name) for inner in value.values())
    if isinstance(value, list):
        return any(named_in(inner, name) for inner in value)
    return value == name


@METHODS
def test_a_method_has_its_module(entry):
    module, _, attribute = entry.target.partition(":")
    path = ROOT / f"{module.replace('.', '/')}.py"
    assert path.is_file(), f"{entry.name} is one module: {name_of(path)}"
    cls = next((n for n in tree_of(path).body if isinstance(n, ast.ClassDef) and n.name == attribute), None)
    assert cls is not None, f"{entry.target} is not a class of that module"
    assert is_dataclass(cls), f"{entry.target} is not a dataclass"
    frozen = [k for d in cls.decorator_list if isinstance(d, ast.Call) for k in d.keywords if k.arg == "frozen"]
    assert frozen, f"{entry.target} is not frozen"


@METHODS
def test_a_method_can_be_written_in_yaml(entry):
    names = [field.name for field in fields.describe(entry.load())]
    for taken in ("name", "place"):
        assert taken not in names, f"{{name: {entry.name}, ...}} leaves no room for a field called {taken}: rename it"


@METHODS
def test_a_method_has_its_test(entry):
    parts = entry.target.partition(":")[0].split(".")[1:]
    path = ROOT.joinpath("tests", *parts[:-1], f"test_{parts[-1]}.py")
    assert path.is_file(), f"the test of {entry.name} is {name_of(path)}"
    assert "def test_" in path.read_text(encoding="utf-8")


@METHODS
def test_a_method_has_its_page(entry):
    path = ROOT / "docs" / "methods" / f"{entry.name}.md"
    assert path.is_file(), f"the page of {entry.name} is {name_of(path)}"
    marker = f"<!-- fields: {entry.kind} {entry.name} -->"
    assert marker in path.read_text(encoding="utf-8"), f"{name_of(path)} lacks the line {marker}"


@METHODS
def test_a_system_has_its_recipe(entry):
    if not entry.paper:
        pytest.skip("a plain tool makes no claim; every recipe may use it")
    recipes = {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in recipe_files()}
    using = [name for name, recipe in recipes.items() if named_in(recipe.get("steps"), entry.name)]
    claiming = [name for name in using if recipes[name].get("expect")]
    assert claiming, f"no recipe with `expect:` lines uses {entry.name} (recipes that use it: {using})"


def recipe_files() -> list[Path]:
    """Return the recipes; they lie in one folder of the checkout."""
    return sorted(ROOT.glob("recipes/*.yaml")) or sorted(PACKAGE.glob("recipes/*.yaml"))


def test_an_installed_package_has_the_recipes():
    """`fairlead.recipe.shipped` looks for them inside the package, and beside it in a checkout."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]["recipes"] == "fairlead/recipes"


# --- start-up ---------------------------------------------------------------------------------------------------------

HEAVY = ("torch", "transformers", "datasets", "pyarrow", "matplotlib", "pandas", "scipy", "accelerate", "pydantic")


def best_of_five(*command: str) -> float:
    """Return the least processor time of five runs in seconds: what an idle machine would take, on a busy one too."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(seconds)


@pytest.mark.parametrize("code", ["import fairlead", "import fairlead.cli", "import fairlead.catalog, fairlead.errors"])
def test_startup_loads_no_heavy_package(code):
    program = f"import sys; {code}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_startup_of_the_package():
    assert best_of_five("-c", "import fairlead") < 0.2


def test_startup_of_the_help():
    assert best_of_five("-c", "from fairlead.cli import main; main()", "--help") < 0.5
