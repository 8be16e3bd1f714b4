"""Every file imports downward only; which floor a file is on is written here and nowhere else."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "magface"

FLOORS = (
    {"_version", "types", "geometry", "registry", "io", "threads", "text", "errors"},
    {"losses", "heads", "backbones", "metrics"},
    {"images", "align", "detect", "engines", "models", "data", "quality", "cluster", "fusion", "gallery"}
    | {"video", "tracking"},
    {"embedder", "aligner", "recognizer", "benchmarks", "morphing", "fairness", "train", "enrollment", "bulk"},
    {"report", "export", "quantize", "cli", "viz", "serve", "__main__"},
)
FLOOR = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}

# edges inside a floor; floors 0 and 4 are free
INSIDE = {
    ("heads", "losses"),
    ("recognizer", "embedder"),
    ("recognizer", "aligner"),
    ("benchmarks", "embedder"),
    ("benchmarks", "aligner"),
    ("train", "embedder"),
    ("train", "benchmarks"),
    ("enrollment", "recognizer"),
    ("enrollment", "embedder"),
    ("bulk", "aligner"),
    ("bulk", "recognizer"),
    ("bulk", "embedder"),
}
NEVER = {"models": {"engines", "detect", "images", "align", "data", "quality", "cluster"}}
HEAVY = {"torch", "openvino", "onnxruntime", "onnx", "pyarrow", "rich", "matplotlib"} | {
    *("faiss", "networkit", "sklearn", "scipy", "pymilvus", "sqlcipher3", "ray", "pandas"),
}
# where a heavy package is what the file is about
AT_HOME = {
    "torch": {"losses", "heads", "backbones", "train", "export"},
    "onnx": {"export", "quantize"},
    "pyarrow": {"report"},
    "rich": {"train"},
    "matplotlib": {"viz"},
}

FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def part(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(tree):
    """Names of imported modules, those of the package by what is taken from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def statements_at_the_top(tree):
    """Module without the bodies of functions and of `if TYPE_CHECKING`."""
    body = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return ast.Module(
        [node for node in body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node))], []
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_file_imports_downward(path):
    here = part(path)
    assert here in FLOOR, f"{here} is on no floor"
    inner = [name.split(".")[1] for name in imports(ast.parse(path.read_text())) if name.startswith("magface.")]
    for there in set(inner) - {here, "__version__"}:
        assert there not in NEVER.get(here, ()), f"{here} must not import {there}"
        below = FLOOR[there] < FLOOR[here]
        beside = FLOOR[there] == FLOOR[here] and (FLOOR[here] in (0, 2, 4) or (here, there) in INSIDE)
        assert below or beside, f"{here} (floor {FLOOR[here]}) must not import {there} (floor {FLOOR[there]})"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_heavy_packages_are_imported_where_they_are_used(path):
    top = {name.split(".")[0] for name in imports(statements_at_the_top(ast.parse(path.read_text())))}
    for package in top & HEAVY:
        assert part(path) in AT_HOME.get(package, ()), f"import {package} inside the function that needs it"


def test_mathematics_knows_no_files_and_no_images():
    for path in FILES:
        if FLOOR[part(path)] == 1:
            packages = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
            assert not {"cv2", "PIL", "pathlib", "os", "io"} & packages, path
