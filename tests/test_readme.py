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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_has_the_two_commands_and_the_place_for_measurements():
    text = (ROOT / "README.md").read_text()
    assert 'python -m pip install ".[train]" && numbacnn train' in text
    assert "python -m pip install tox && tox" in text
    assert text.count("<!-- bench:begin -->") == text.count("<!-- bench:end -->") == 1


def test_continuous_integration_runs_the_test_command_of_the_readme():
    assert "python -m pip install tox && tox" in (ROOT / ".ci" / "run").read_text()
