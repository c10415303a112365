"""The examples in the README and the documentation run, and their links lead somewhere."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples(page):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testfile(str(page), module_relative=False, optionflags=flags)
    assert result.failed == 0
    assert result.attempted > 0 or page.name not in ("README.md", "training.md", "running.md")


def anchors(page):
    """The anchors of a page's headings, formed as GitHub and MkDocs form them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        if "://" in target:
            continue
        there = page.parent / target if target else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}#{anchor}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    for name in re.findall(r"`([\w./*-]+\.(?:py|txt|toml))`", page.read_text()):
        places = [ROOT / part for part in ("numbacnn", "tests", "bench", "examples")]
        found = any(ROOT.glob(name)) or any(any(place.glob(f"**/{name}")) for place in places)
        assert found, f"{page.name} names {name}"


def test_readme_has_the_two_commands_and_the_place_for_measurements():
    text = (ROOT / "README.md").read_text()
    assert 'python -m pip install ".[train]" && numbacnn train' in text
    assert "python -m pip install tox && tox" in text
    assert text.count("<!-- bench:begin -->") == text.count("<!-- bench:end -->") == 1


def test_continuous_integration_runs_the_test_command_of_the_readme():
    assert "python -m pip install tox && tox" in (ROOT / ".ci" / "run").read_text()
