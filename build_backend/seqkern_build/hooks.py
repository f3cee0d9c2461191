"""PEP 517 hooks: setuptools' own, after a check that the target environment holds torch.

The extension must be built against the very torch it will be loaded with, so torch cannot be a
build requirement (pip would put another copy into its isolated environment). It is found in the
target environment instead; see `target.py`.
"""

import shutil
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

from seqkern_build.target import require_torch

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ConfigSettings = dict[str, Any] | None


def get_requires_for_build_wheel(config_settings: ConfigSettings = None) -> list[str]:
    """Fail early, in one line, where there is no torch to build against."""
    require_torch()
    return build_meta.get_requires_for_build_wheel(config_settings)


def get_requires_for_build_editable(config_settings: ConfigSettings = None) -> list[str]:
    """Fail early, in one line, where there is no torch to build against."""
    require_torch()
    return build_meta.get_requires_for_build_editable(config_settings)


def build_wheel(
    wheel_directory: str,
    config_settings: ConfigSettings = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the wheel; objects of an earlier build are reused, packaged files are not."""
    require_torch()
    # setuptools never removes from build/lib* what has left the source tree, and would ship it.
    for stale in Path("build").glob("lib*"):
        shutil.rmtree(stale)
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str,
    config_settings: ConfigSettings = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the extension in place and link the source tree into the environment."""
    require_torch()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
