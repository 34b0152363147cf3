"""The public names: all there, listed once for people and once for type checkers, and the README's ten lines work."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import mithridate

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there():
    for name in dir(mithridate):
        assert getattr(mithridate, name) is not None


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(mithridate.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {(node.module, alias.asname) for node in block.body for alias in node.names}
    listed = {(f"mithridate.{module}", name) for name, module in mithridate._MODULES.items()}
    assert seen == listed


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Gradient'"):
        mithridate.Gradient  # noqa: B018


def readme_snippet():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]


def test_the_python_lines_of_the_readme_run(capsys):
    """Shortened to seconds: fewer rows, epochs and steps, nothing else changed."""
    snippet = readme_snippet()
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 12
    small = snippet.replace("Bundled()", "Bundled(train_rows=200, test_rows=60)")
    small = small.replace("epochs=20", "epochs=1").replace("steps=60", "steps=2")
    assert small.count("rows=") == 2
    assert "epochs=1)" in small
    assert "steps=2" in small
    names: dict = {}
    exec(compile(small, "README.md", "exec"), names)
    assert set(names["metrics"]) == {"success", "clean_accuracy", "error"}
    assert "success" in capsys.readouterr().out
