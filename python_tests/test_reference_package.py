"""The reference as a package: its examples run, and it is free of torch."""

import ast
import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import reference

pytestmark = pytest.mark.backends("cpu", reason="touches no kernels")

MODULES = sorted(module.name for module in pkgutil.iter_modules(reference.__path__, "reference."))


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    assert result.attempted > 0 or name.startswith("reference._")  # helpers, without examples


@pytest.mark.parametrize("name", MODULES)
def test_reference_imports_no_torch(name: str) -> None:
    source = importlib.import_module(name).__file__
    assert source is not None
    nodes = list(ast.walk(ast.parse(Path(source).read_text())))
    imported = {
        alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert "numpy" in imported
    assert not any(package.split(".")[0] == "torch" for package in imported)
