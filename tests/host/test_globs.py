# SPDX-License-Identifier: Apache-2.0
"""Patterns that somebody's rules may have and that must not be worked at for ever. What they match: tests/field."""

from __future__ import annotations

from hotbank.host import globs


def test_many_stars_are_no_work() -> None:
    """With a star that is tried at every place, six of these take a second, and each more ten times as long."""
    assert not globs.matches("*a" * 60 + "*b", "a" * 500)
    assert globs.matches("*a" * 60 + "*b", "a" * 500 + "b")


def test_many_patterns_of_one_line_are_made_into_one() -> None:
    asked = tuple(f"memory{number}" for number in range(2000, 3700))
    globs._compiled.cache_clear()
    assert [number for number in range(1990, 2003) if globs.any_matches(asked, f"memory{number}")] == [2000, 2001, 2002]
    assert globs._compiled.cache_info().misses == 1


def test_many_brackets_without_an_end_are_no_work() -> None:
    for pattern in ("[" * 16000, "[[:" * 5000):
        assert globs.matches(pattern, pattern)
