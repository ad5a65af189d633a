"""Imports point one way, heavy libraries load only where they are used, and this test can fail."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "roofline"

LAYERS = (
    {"errors", "structs"},
    {"device", "roofs", "model", "cost", "workload", "economics", "service", "trace"},
    {"kernels", "parameters"},
    {"timing"},
    {"transformer"},
    {"footprint"},
    {"capacity", "crossing", "deployment", "outcome", "prediction"},
    {"sweep"},
    {"serving"},
    {"planning", "sensitivity"},
    {"difference", "explanation"},
)
"""Layers from the bottom up: a module may import from its own layer's modules below it and from lower layers."""

SIDE = {
    # Beside the tower: what each may import besides values (and itself).
    "io": {"timing", "serving"},
    "measure": {"kernels", "io", "transformer"},
    "calibrate": {"io", "kernels", "timing", "transformer", "deployment", "serving"},
    "validate": {
        "io",
        "kernels",
        "timing",
        "transformer",
        "footprint",
        "capacity",
        "prediction",
        "calibrate",
        "serving",
    },
    "api": {"io", "service_settings"}.union(*LAYERS),
    "service_settings": {"io", "serving"},
    "planner": {"io", "api"}.union(*LAYERS),
    "simulator": {"io", "api"}.union(*LAYERS),
    "alternatives": {"io", "api"}.union(*LAYERS),
    "comparison": {"api", "prediction", "io"},
    "report": {"prediction", "sweep", "comparison", "io", "outcome", "sensitivity", "explanation", "serving"},
}

VALUES = LAYERS[0] | LAYERS[1]

LAZY = {"torch", "plotly", "pandas", "pyarrow", "scipy", "dask", "distributed", "jinja2", "rich"}


def unit(path: Path, root: Path) -> str:
    """The top-level module or package that a file belongs to."""
    return path.relative_to(root).parts[0].removesuffix(".py")


def imports(path: Path, root: Path) -> set[str]:
    """The units of this project that a file imports, at any depth of the file."""
    package = path.relative_to(root).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            parts = (*base, *(node.module or "").split(".")) if node.module else base
            found |= {parts[0]} if parts and parts[0] else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "roofline":
            found.add([*node.module.split("."), node.names[0].name][1])
    return found


def wrong_arrows(root: Path) -> list[str]:
    """Imports that point upwards, as "file imports unit"."""
    height = {name: i for i, names in enumerate(LAYERS) for name in names}
    wrong = []
    for path in sorted(root.rglob("*.py")):
        here = unit(path, root)
        if here in ("cli", "__init__", "__main__"):
            continue
        for target in imports(path, root) - {here, "__version__"}:
            if here in height:
                ok = target in height and height[target] <= height[here]
            else:
                ok = target in VALUES | SIDE[here]
            if not ok:
                wrong.append(f"{path.relative_to(root)} imports {target}")
    return wrong


def eager_heavy_imports(root: Path) -> list[str]:
    """Heavy libraries imported while a module loads (outside any function)."""
    wrong = []
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        lazy = {n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
        typing_only = {
            n
            for f in ast.walk(tree)
            if isinstance(f, ast.If) and "TYPE_CHECKING" in ast.unparse(f.test)
            for n in ast.walk(f)
        }
        for node in ast.walk(tree):
            if node in lazy or node in typing_only:
                continue
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            wrong += [f"{path.relative_to(root)} imports {n}" for n in names if n.split(".")[0] in LAZY]
    return wrong


def test_imports_point_one_way():
    assert wrong_arrows(ROOT) == []


def test_heavy_libraries_are_imported_where_they_are_used():
    assert eager_heavy_imports(ROOT) == []


@pytest.mark.parametrize(
    ("file", "line", "found"),
    [
        ("kernels/bad.py", "from ..timing import time_step", "kernels/bad.py imports timing"),
        ("timing/bad.py", "from ..prediction import predict", "timing/bad.py imports prediction"),
        ("structs.py", "from . import cost", "structs.py imports cost"),
        ("measure/bad.py", "from ..prediction import predict", "measure/bad.py imports prediction"),
        ("report/bad.py", "from ..timing import time_step", "report/bad.py imports timing"),
        ("footprint.py", "from roofline.prediction import predict", "footprint.py imports prediction"),
        ("serving/bad.py", "from ..planning.answer import answer", "serving/bad.py imports planning"),
        ("planning/bad.py", "from ..io.prices import load_site", "planning/bad.py imports io"),
        ("sensitivity/bad.py", "from ..explanation.node import Node", "sensitivity/bad.py imports explanation"),
    ],
)
def test_a_planted_wrong_arrow_is_found(tmp_path, file, line, found):
    path = tmp_path / "roofline" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line)
    assert wrong_arrows(tmp_path / "roofline") == [found]


def test_a_planted_eager_import_is_found(tmp_path):
    (tmp_path / "bad.py").write_text("import torch\ndef use():\n    import scipy\n")
    assert eager_heavy_imports(tmp_path) == ["bad.py imports torch"]


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split("\n")[-2].split())


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_after("import roofline") & (LAZY | {"numpy", "pydantic", "typer"})


def test_a_prediction_loads_nothing_heavy():
    assert not loaded_after('import roofline\nroofline.predict("llama-3.1-8b", "h100-sxm")') & (LAZY - {"rich"})


def test_modules_stay_small():
    long = {
        str(p.relative_to(ROOT)): n for p in ROOT.rglob("*.py") if (n := len(p.read_text("utf-8").splitlines())) > 400
    }
    assert long == {}
