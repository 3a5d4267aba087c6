# SPDX-License-Identifier: Apache-2.0
"""Which policy, and how it and its guard are set: by name, from a TOML file, by ``key=value``.

    policy = "balance"
    every = 2.0            # seconds between looks
    standby = 1            # groups that are kept offline with their power on (standby.py)

    [settings]             # of the policy: the fields of its class
    guess = 0.5

    [guard]                # of the guard: the fields of Guard
    hourly = 20

A policy of one's own is an entry point of the group ``hotbank.policies`` and passes the same guard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from hotbank import keys as toml
from hotbank.errors import BoardError, Code
from hotbank.govern.guard import Guard
from hotbank.govern.policy import Balance, Policy, Reserve
from hotbank.numbers import decimal, finite

GROUP = "hotbank.policies"
SHIPPED: Mapping[str, Callable[..., Policy]] = {"balance": Balance, "reserve": Reserve}
EVERY = 2.0  # seconds between looks: at 5, a sawtooth of 27 MiB/s kills (docs/policy.md, incidents)
_KIND = "auto"


@dataclass(frozen=True, slots=True)
class Settings:
    """What is to govern. ``every``: seconds between looks. ``guard``: what of it was given; all else is reckoned.
    ``standby``: groups that are kept offline with their power on."""

    name: str = "balance"
    policy: Policy = field(default_factory=Balance)
    every: float = EVERY
    guard: Mapping[str, float] = field(default_factory=dict)
    standby: int = 0

    def guarded(self) -> Guard:
        """The guard as it was set."""
        given: dict[str, Any] = {name: _as_typed(name, value) for name, value in self.guard.items()}
        return Guard(**given)

    def given(self) -> dict[str, Any]:
        """Every setting of the policy and what was given of the guard's, for a manifest."""
        more = {"standby": self.standby} if self.standby else {}
        return {"every": self.every, **more, **_values(self.policy), **{f"guard.{n}": v for n, v in self.guard.items()}}


def read(name: str, pairs: Iterable[str] = ()) -> Settings:
    """A policy by name or from a TOML file, with ``key=value`` set. Raises BoardError."""
    settings = load(name) if name.endswith(".toml") else Settings(name, _made(name))
    for pair in pairs:
        settings = _with(settings, pair)
    return settings


def load(path: str) -> Settings:
    """From a TOML file. Raises BoardError: the key, its value, what is allowed."""
    keys = toml.table(_KIND, toml.read(_KIND, path, code=Code.BAD_FORMAT), code=Code.BAD_FORMAT, file=path)
    given = keys.read(_KEYS)
    keys.check()
    name, policy = given["policy"], _made(given["policy"])
    settings = Settings(name, policy, given["every"], standby=given["standby"])
    guard = ((f"guard.{key}", value) for key, value in given["guard"].items())
    for key, value in [*given["settings"].items(), *guard]:
        settings = _set(settings, key, value)
    return settings


def _numbers(value: object) -> Mapping[str, float]:
    if not isinstance(value, Mapping) or any(finite(number) is None for number in value.values()):
        raise ValueError("must be a table of numbers")
    return {str(key): float(number) for key, number in value.items()}


def _groups(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("must be a number of groups, 0 or more")
    return value


_KEYS = (
    toml.Key("policy", toml.text, "balance"),
    toml.Key("every", toml.seconds, EVERY),
    toml.Key("standby", _groups, 0),
    toml.Key("settings", _numbers, {}),
    toml.Key("guard", _numbers, {}),
)


def _made(name: str) -> Policy:
    if name in SHIPPED:
        return SHIPPED[name]()
    from importlib.metadata import entry_points  # slow to import, and seldom needed

    own = {point.name: point for point in entry_points(group=GROUP)}
    if name not in own:
        raise BoardError("policy", name, f"known: {', '.join(sorted([*SHIPPED, *own]))}; or a TOML file")
    made: Policy = own[name].load()()
    return made


def _with(settings: Settings, pair: str) -> Settings:
    key, equals, text = pair.partition("=")
    value = decimal(text)
    if not equals or value is None:
        raise BoardError("set", pair, "must be key=number")
    return _set(settings, key, value)


def _set(settings: Settings, key: str, value: float) -> Settings:
    """One setting changed: ``every``, a field of the policy, or ``guard.`` and one of the guard."""
    owner = Guard() if key.startswith("guard.") else settings.policy
    known = {**_values(owner), **({} if key.startswith("guard.") else {"every": settings.every})}
    name = key.removeprefix("guard.")
    if name not in known:
        every = ", ".join([*_values(settings.policy), "every", *_guards()])
        raise BoardError(key, value, f"{settings.name} and its guard have no such setting; known: {every}")
    if not value >= 0 or (name == "every" and value <= 0):
        raise BoardError(key, value, f"must be {'more than 0' if name == 'every' else '0 or more'}")
    if key.startswith("guard."):
        return replace(settings, guard={**settings.guard, name: value})
    if name == "every":
        return replace(settings, every=value)
    return replace(settings, policy=replace(settings.policy, **{name: value}))  # type: ignore[type-var]


def _values(thing: object) -> dict[str, float]:
    if not is_dataclass(thing):
        return {}
    found = {f.name: getattr(thing, f.name) for f in fields(thing)}
    return {name: value for name, value in found.items() if finite(value) is not None}


def _guards() -> list[str]:
    return [f"guard.{name}" for name in _values(Guard())]


def _as_typed(name: str, value: float) -> float:
    """A whole number where the guard has one."""
    return int(value) if isinstance(getattr(Guard(), name), int) else value
