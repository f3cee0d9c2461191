"""Find the torch of the environment that the package is being installed into."""

import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path


def site_packages() -> list[Path]:
    """The folders in which the target environment keeps its packages.

    Pip's isolated build leaves them off the import path, but ``sys.prefix`` is still the target.
    """
    folders = [sysconfig.get_path("platlib"), sysconfig.get_path("purelib")]
    folders += site.getsitepackages()  # adds the base installation's where a venv shares it
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return [Path(folder) for folder in dict.fromkeys(folders)]


def find_torch(folders: Iterable[Path]) -> Path | None:
    """The first of `folders` that holds torch, or None."""
    return next((folder for folder in folders if (folder / "torch/__init__.py").is_file()), None)


def missing_torch_message() -> str:
    """What to do where the target environment holds no torch, in one line."""
    pip = f"{sys.executable} -m pip install"
    return (
        f"seqkern is built against the torch already installed, and {sys.prefix} holds none: "
        f"run `{pip} 'torch>=2.10'` and then `{pip} .` again"
    )


def require_torch() -> None:
    """Make ``import torch`` work, or end with `missing_torch_message`.

    The target environment goes to the end of the import path, so that the build requirements which
    pip put into the isolated environment still come first.
    """
    if importlib.util.find_spec("torch") is not None:
        return
    folder = find_torch(site_packages())
    if folder is None:
        raise SystemExit(missing_torch_message())
    sys.path.append(str(folder))
