"""What holds for every source file and no linter checks."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_text_files_are_opened_with_an_encoding():
    """Without one, Windows reads and writes in its code page."""
    found = []
    for folder in ("tfproj", "cli", "export"):
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and _is_text(n)]
            found += [
                f"{path.relative_to(ROOT)}:{call.lineno}"
                for call in calls
                if not any(keyword.arg == "encoding" for keyword in call.keywords)
            ]
    assert not found


def _is_text(call):
    """Whether it is ``open``, ``Path.open``, ``read_text`` or ``write_text``, but not on bytes."""
    owner, _, name = ast.unparse(call.func).rpartition(".")
    if name in ("read_text", "write_text"):
        return bool(owner)  # alone it is a function of ours
    if name != "open" or owner in ("os", "Image", "Output", "tarfile", "archive"):
        return False
    modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return not any("b" in mode for mode in modes)
