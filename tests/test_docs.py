"""Links of the documents lead to files that are there, and to the functions that their words name."""
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "analysis").glob("*.md"), *(ROOT / "configs").rglob("*.md")]
LINK = re.compile(r"\[([^\]]*)\]\(([^)#]+)[^)]*\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for words, target in LINK.findall(document.read_text()):
        if "://" in target:
            continue
        path = document.parent / target
        assert path.exists(), f"{target} ({words})"
        for name in re.findall(r"`([A-Za-z_:]+)`", words):
            assert name.split("::")[-1] in path.read_text(), f"{name} is not in {target}"


def test_there_are_documents():
    assert {"README.md", "CONTRIBUTING.md"} <= {path.name for path in DOCUMENTS}
