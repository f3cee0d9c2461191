"""Read csrc/sources.txt, the one list of native sources (CMakeLists.txt reads it as well)."""

from pathlib import Path

SECTIONS = ("kernels", "cuda", "torch", "torch-cuda")


def read_sources(path: Path) -> dict[str, list[str]]:
    """The sources of every section, in file order; a section that is not there is empty.

    Raises
    ------
    ValueError
        For an unknown section, or a source before the first section.
    """
    sources: dict[str, list[str]] = {section: [] for section in SECTIONS}
    section = None
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        if entry.startswith("["):
            section = entry.strip("[]")
            if section not in sources:
                raise ValueError(
                    f"{path}:{number}: unknown section {entry}, expected one of {SECTIONS}"
                )
        elif section is None:
            raise ValueError(f"{path}:{number}: {entry} stands before the first [section]")
        else:
            sources[section].append(entry)
    return sources
