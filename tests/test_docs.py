"""The documentation builds as a site, and none of its links is dead."""

import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
pytest.importorskip("mkdocs", reason="the extra docs is not installed")


@pytest.fixture
def site() -> Any:
    """The module with MkDocs' hooks."""
    spec = importlib.util.spec_from_file_location("docs_site", ROOT / "tools" / "docs_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    code = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        code, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    api = (tmp_path / "api" / "index.html").read_text(encoding="utf-8")
    assert 'id="srgan_fast.Upscaler.upscale_rows"' in api
    assert (tmp_path / "kernels" / "index.html").exists()


@pytest.mark.parametrize(
    ("source", "page", "text", "expected"),
    [
        ("README.md", "index.md", "[guide](docs/guide.md#tiles)", "[guide](guide.md#tiles)"),
        ("docs/guide.md", "guide.md", "[start](../README.md)", "[start](index.md)"),
        ("docs/guide.md", "guide.md", "[a test](../tests/test_docs.py)", "a test (`tests/test_docs.py`)"),
        ("docs/guide.md", "guide.md", "[elsewhere](https://semver.org)", "[elsewhere](https://semver.org)"),
        ("docs/samples/README.md", "samples/README.md", "![a cat](cat.png)", "![a cat](cat.png)"),
        ("docs/guide.md", "guide.md", "```\n[x](../README.md)\n```", "```\n[x](../README.md)\n```"),
    ],
)
def test_links_hold_on_the_site(site: Any, source: str, page: str, text: str, expected: str) -> None:
    assert site.relinked(text, source, page) == expected


def test_a_link_to_a_file_that_is_not_there_is_a_warning(site: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        site.relinked("[gone](gone.md)", "docs/guide.md", "guide.md")
    assert "docs/guide.md: link to gone.md" in caplog.text
