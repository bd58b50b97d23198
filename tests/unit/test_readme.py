"""README stays true: the files it names are there, the targets it names are in the Makefile, packages are explained."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md")))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_a_document_names_is_there(document: str) -> None:
    text = (ROOT / document).read_text()
    named = set(re.findall(r"`((?:libs|services|deploy|tests|docs)/[\w./-]+)`", text))
    linked = set(re.findall(r"\]\(([^)#:]+)\)", text))

    missing = [path for path in named if not (ROOT / path).exists()]
    missing += [link for link in linked if not ((ROOT / document).parent / link).exists()]

    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_a_document_names_is_there(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / document).read_text(), re.MULTILINE))

    assert named <= targets


def test_every_package_is_named_in_the_readme() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "README.md").read_text()

    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = [re.split(r"[\[>=<]", package)[0] for package in wanted]

    assert [name for name in names if name not in text and not name.endswith("-stubs")] == []


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_has_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()

    assert "://" not in text
    assert text.count("==") <= text.count("--hash=sha256:")
