# SPDX-License-Identifier: Apache-2.0
"""Patterns that somebody's rules may have and that must not be worked at for ever. What they match: tests/field."""

from __future__ import annotations

import pytest

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


@pytest.mark.parametrize(
    ("pattern", "takes", "misses"),
    [("[]", "[]", "x"), ("[!]", "[!]", "x"), ("a[]b", "a[]b", "ab"), ("m[]]", "m]", "m"), ("[!]]", "x", "]")],
)
def test_a_bracket_first_of_all_is_one_of_those_that_are_meant(pattern: str, takes: str, misses: str) -> None:
    assert globs.matches(pattern, takes)
    assert not globs.matches(pattern, misses)


def test_a_backslash_without_anything_behind_it_takes_nothing() -> None:
    assert not globs.matches("memory3\\", "memory3\\")


@pytest.mark.parametrize("end", ["", "]", "\\]", "[:alpha:"])
def test_of_brackets_without_an_end_the_first_is_looked_at(end: str) -> None:
    """A line may have thousands: to look for the end of each took half a minute."""
    assert not globs.matches("[" * 16_000 + end, "memory3")
    assert sum(1 for _ in globs.wild("[" * 16_000 + end)) <= 1
