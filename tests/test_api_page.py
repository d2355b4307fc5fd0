"""docs/api.md says what the docstrings say."""

import runpy
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def test_the_page_is_what_the_docstrings_make():
    made = runpy.run_path(str(DOCS / "make_api.py"))["page"]()
    assert made == (DOCS / "api.md").read_text(encoding="utf-8"), "run: make docs"


def test_every_public_class_and_its_arguments_are_there():
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    for words in ("## Predictor\n", "### Predictor.predict\n", "- `unknown_below`: ", "## Segm"):
        assert words in text
    assert ":class:" not in text and "``" not in text.replace("```", "")
