"""The example in the chapter runs as written."""

from __future__ import annotations

import subprocess
import sys

from tests.docs.pages import fences, page


def test_the_chapter_s_example_traces_its_answer() -> None:
    (code,) = fences(page("docs/watermark.md"), "python")
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "account-7's mark is in the text" in done.stdout
