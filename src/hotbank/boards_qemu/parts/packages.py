# SPDX-License-Identifier: Apache-2.0
"""Debian packages of another architecture, without touching this machine's package database.

apt does the work (signatures, hashes, dependencies) with a configuration, lists, cache and status of its own below
``$XDG_CACHE_HOME/hotbank``. Which mirrors it asks, it takes from this machine's own apt sources. A request that
was answered once is answered from the cache afterwards, with every package checked against its SHA-256, so that
the second ``hotbank up`` needs no network.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hotbank.errors import Code, MachineError
from hotbank.memory import MIB
from hotbank.regular import open_regular, read_regular

Progress = Callable[[str], None]

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_URI = re.compile(r"'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+)")
_IMAGE = re.compile(r"linux-image-(?P<release>[0-9]+\.[0-9]+\.[0-9][a-z0-9+.]*(-[0-9]+)?-(?P<flavour>[a-z][a-z0-9-]*))")
_WORD = r"[A-Za-z0-9][A-Za-z0-9+.~%:=_-]*"  # a name, version, digest or file: no path, and no option of a program
_LINE = re.compile(f"{_WORD}(?: {_WORD})?")
_SPLIT = (6, 19)  # the first whose image and modules are packages of their own
_NEWER = {"bookworm": ("trixie", "trixie-backports")}  # kernels that a release has not got itself
_MOST = 1 << 24  # bytes of an answer that is kept
_RESERVE = 64 * MIB  # left free on the cache's file system
_LISTS = 96 * MIB  # what apt keeps of Debian's lists, and its index of them
_NO_NETWORK, _NO_SPACE = "is the network there?", "free some, or set XDG_CACHE_HOME to a larger file system"


def no_progress(_text: str) -> None:
    """A progress callback that says nothing."""


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/hotbank``, or ``~/.cache/hotbank``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "hotbank"


@dataclass(frozen=True, slots=True)
class Archive:
    """Debian's archive as one architecture sees it (``arm64``, ``armhf``, or this machine's own).

    ``cache``: where everything is kept. ``progress`` hears one line for each step that takes a while.
    """

    arch: str
    cache: Path
    progress: Progress = no_progress

    @classmethod
    def open(cls, arch: str, progress: Progress = no_progress) -> Archive:
        """The archive with the user's cache folder."""
        return cls(arch, cache_folder() / "packages" / arch, progress)

    def kernel(self, series: str, flavour: str, *, whole: bool = True) -> str:
        """The newest kernel of a series, or the one release: ``kernel("6.12", "arm64")`` gives ``6.12.95+deb12-arm64``.

        Of a series that several releases of Debian have, the one built for this machine's own. ``whole``: with its
        modules; else its image alone will do. Raises MachineError when the archive has none, with what it has.
        """
        there = self.kernels(flavour, whole=whole)
        found = [release for release in there if _is_of(release, series)]
        if not found:
            series_there = self.series(flavour, whole=whole)
            raise MachineError(
                f"Debian's archive has no kernel {series} for {flavour}",
                code=Code.UNSUPPORTED,
                remedy=f"it has {', '.join(series_there) or 'none'}; or give one with --kernel and --modules",
            )
        return max(found, key=_own_first)

    def kernels(self, flavour: str, *, whole: bool = True) -> list[str]:
        """All releases that the archive has of a flavour, the oldest first. ``whole``: as ``kernel`` takes it."""
        request = f"kernels {flavour}{' whole' if whole else ''}"
        return self._answered(request, lambda: self._find_kernels(flavour, whole))

    def series(self, flavour: str, *, whole: bool = True) -> list[str]:
        """All series of which the archive has a release, the oldest first. ``whole``: as ``kernel`` takes it."""
        there = self.kernels(flavour, whole=whole)
        return list(dict.fromkeys(".".join(map(str, _by_number(release)[:2])) for release in there))

    def unpack_kernel(self, release: str, *, whole: bool = True) -> Path:
        """Fetch a release and give one folder with its image and modules: of one package, or since 6.19 of three.

        ``whole``: as ``kernel`` takes it.
        """
        parts = sorted(_parts_of(release, whole))
        name = f"linux-{release}" if whole or len(parts) > 1 else parts[0]
        return self._unpacked({name: self.fetch(*parts)})[0]

    def newest(self, name: str) -> str:
        """``NAME=VERSION`` of a package, the newest of all releases: for ``fetch`` and ``unpack``, which prefer this
        machine's own release. Raises MachineError where there is none."""
        found = self._answered(f"newest version of {name}", lambda: self._find_newest(name))
        return found[0]

    def fetch(self, *names: str, depends: bool = False) -> tuple[Path, ...]:
        """The ``.deb`` files of the named packages, with all that they depend on when ``depends``.

        Raises MachineError when apt, the network or the space is missing, or a package does not exist.
        """
        request = f"fetch {'with' if depends else 'without'} dependencies: {' '.join(names)}"
        with self._locked():
            known = self._known(request)
            if known is None or not all(self._intact(line) for line in known):
                known = self._download(names, depends)
                self._remember(request, known)
        return tuple(self._debs / line.split()[1] for line in known)

    def unpack(self, *names: str, depends: bool = False) -> tuple[Path, ...]:
        """Fetch, and give one folder for each package with its files in it; unpacked once, then kept."""
        return self._unpacked({deb.stem: [deb] for deb in self.fetch(*names, depends=depends)})

    @property
    def _debs(self) -> Path:
        return self.cache / "debs"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        _make(self._debs)
        with open(self.cache / "lock", "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _answered(self, request: str, find: Callable[[], list[str]]) -> list[str]:
        with self._locked():
            known = self._known(request)
            if known is None:
                known = find()
                self._remember(request, known)
        return known

    def _known(self, request: str) -> list[str] | None:
        """What was answered before; None where nothing was, or somebody else wrote something else there."""
        try:
            told = json.loads(read_regular(self._request(request), _MOST))
        except (OSError, ValueError, RecursionError):
            return None
        lines = told.get("answer") if isinstance(told, dict) and told.get("request") == request else None
        ours = isinstance(lines, list) and all(isinstance(line, str) and _LINE.fullmatch(line) for line in lines)
        return lines if ours else None

    def _remember(self, request: str, answer: list[str]) -> None:
        path = self._request(request)
        _make(path.parent)
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"request": request, "answer": answer}, indent=1), encoding="utf-8")
        part.replace(path)

    def _request(self, request: str) -> Path:
        return self.cache / "requests" / f"{hashlib.sha256(request.encode()).hexdigest()[:16]}.json"

    def _intact(self, line: str) -> bool:
        digest, _, name = line.partition(" ")
        try:
            with os.fdopen(open_regular(self._debs / name), "rb") as deb:
                return hashlib.file_digest(deb, "sha256").hexdigest() == digest
        except OSError:
            return False

    def _find_kernels(self, flavour: str, whole: bool) -> list[str]:
        names = frozenset(_run(self._apt(), ["apt-cache", "pkgnames", "linux-"]).split())
        releases = {r for name in names if (r := _release(name, flavour)) and _parts_of(r, whole) <= names}
        return sorted(releases, key=lambda release: (_by_number(release), release))

    def _find_newest(self, name: str) -> list[str]:
        listed = _run(self._apt(), ["apt-cache", "madison", name]).splitlines()
        if not listed:
            raise MachineError(f"Debian's archive has no {name}", code=Code.UNSUPPORTED, remedy=_NO_NETWORK)
        return [f"{name}={listed[0].split('|')[1].strip()}"]

    def _download(self, names: Sequence[str], depends: bool) -> list[str]:
        apt = self._apt()
        verb = ["install", "--no-install-recommends"] if depends else ["download"]
        listed = _run(apt, ["apt-get", *verb, "-qq", "--print-uris", *names])
        parts = [match.groupdict() for match in map(_URI.match, listed.splitlines()) if match]
        missing = [part for part in parts if not (self._debs / part["file"]).exists()]
        size = sum(int(part["size"]) for part in missing)
        _check_space(self._debs, size)
        if missing:
            self.progress(f"fetching packages for {self.arch}: {len(missing)} of {size / MIB:.0f} MiB")
        _run(apt, ["apt-get", "download", "-qq", *(_name_and_version(part["file"]) for part in parts)], self._debs)
        return [_line(self._debs / part["file"]) for part in parts]

    def _unpacked(self, wanted: Mapping[str, Sequence[Path]]) -> tuple[Path, ...]:
        """A folder for each name, with the files of its packages; made once, then kept."""
        new = [name for name in wanted if not (self.cache / "unpacked" / name).is_dir()]
        if new:
            self.progress(f"unpacking {new[0] if len(new) == 1 else f'{len(new)} packages'}")
        return tuple(self._folder_of(name, debs) for name, debs in wanted.items())

    def _folder_of(self, name: str, debs: Sequence[Path]) -> Path:
        folder = self.cache / "unpacked" / name
        if folder.is_dir():
            return folder
        _check_space(self.cache, 4 * sum(deb.stat().st_size for deb in debs))
        part = _make(folder.parent) / f".{name}.{os.getpid()}"
        for deb in debs:
            _run(os.environ, ["dpkg-deb", "-x", str(deb), str(part)])
        try:
            part.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(part)
        return folder

    def _apt(self) -> dict[str, str]:
        """The environment that makes apt work in the cache; its lists are there afterwards."""
        root = self.cache / "apt"
        config = root / "apt.conf"
        environment = dict(os.environ, APT_CONFIG=str(config), LC_ALL="C", DEBIAN_FRONTEND="noninteractive")
        for folder in ("lists/partial", "archives/partial", "empty"):
            _make(root / folder)
        (root / "status").touch()
        sources = "".join(f"{line}\n" for line in _sources())
        config.write_text(_configuration(root, self.arch), encoding="utf-8")
        listing = root / "sources.list"
        if not listing.exists() or listing.read_text(encoding="utf-8") != sources or not _fresh(root / "lists"):
            _check_space(root, _LISTS)
            self.progress(f"reading Debian's package lists for {self.arch}")
            listing.write_text(sources, encoding="utf-8")
            _update(environment, root / "lists")
        return environment


def host_architecture() -> str:
    """This machine's own Debian architecture, such as ``amd64``."""
    return _run(os.environ, ["dpkg", "--print-architecture"]).strip()


def _make(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise MachineError(
            f"{folder}: {e.strerror}", code=Code.SYSTEM_ERROR, remedy="set XDG_CACHE_HOME to a folder you can write to"
        ) from e
    return folder


def _fresh(lists: Path) -> bool:
    """True if there are lists, and apt read them within the last hour: the archive moves on slowly."""
    written_now = (lists.parent / "apt.conf").stat().st_mtime
    return any(lists.glob("*_Packages*")) and written_now - lists.stat().st_mtime < 3600


def _update(environment: dict[str, str], lists: Path) -> None:
    """Read the lists again. One of several sources may fail (a mirror in the middle of its own update):
    as long as there is any list, fetching decides whether what is there suffices, and the next time they are read
    again."""
    try:
        _run(environment, ["apt-get", "update", "-qq"])
    except MachineError:
        if not any(lists.glob("*_Packages*")):
            raise
        os.utime(lists, (0, 0))
    else:
        os.utime(lists)


def _release(package: str, flavour: str) -> str:
    """``6.12.95+deb12-arm64`` of ``linux-image-6.12.95+deb12-arm64``; empty for other flavours and for what is not that
    kernel itself."""
    match = _IMAGE.fullmatch(package)
    return match["release"] if match is not None and match["flavour"] == flavour else ""


def _parts_of(release: str, whole: bool = True) -> frozenset[str]:
    """The packages that hold image and modules, or the image at least. Debian keeps images longer than the modules that
    go with them."""
    if tuple(_by_number(release)[:2]) < _SPLIT:
        return frozenset({f"linux-image-{release}"})
    return frozenset({f"linux-{part}-{release}" for part in (("base", "binary", "modules") if whole else ("binary",))})


def _own_first(release: str) -> tuple[bool, list[int]]:
    """Built for this machine's own release of Debian (``+deb12``, or as long as it was the newest), then by number."""
    return f"+deb{_version()}" in release or "+" not in release, _by_number(release)


def _is_of(release: str, series: str) -> bool:
    """True if the release is of that series, or is it: ``6.12.117`` takes ``6.12.117+deb13``, ``6.1`` no ``6.12``."""
    return re.match(rf"{re.escape(series)}(?![0-9])", release) is not None


def _sources() -> list[str]:
    """``deb`` lines for this release of Debian, its updates and its backports, from this machine's own apt; and for the
    next one with its backports, which has newer kernels. This machine's own is preferred."""
    codename = _codename()
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    rows = _run(os.environ, ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).splitlines()
    wanted = {codename, f"{codename}-updates", f"{codename}-security", f"{codename}-backports"}
    found = dict.fromkeys(
        (uri, release) for uri, release, component in map(str.split, rows) if release in wanted and component == "main"
    )
    for uri, release in list(found):
        if release == codename:
            for more in ("-backports", *_NEWER.get(codename, ())):
                found.setdefault((uri, f"{codename}{more}" if more.startswith("-") else more))
    if not found:
        raise MachineError(
            f"apt's sources on this machine name no Debian archive for {codename}",
            code=Code.UNSUPPORTED,
            remedy="add one to /etc/apt/sources.list, or give --kernel, --modules and --initrd",
        )
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    return [f"deb {signed}{uri} {release} main" for uri, release in found]


def _codename() -> str:
    """``bookworm``. Raises MachineError where this is no Debian."""
    system = _system()
    if system.get("ID") != "debian" or "VERSION_CODENAME" not in system:
        raise MachineError(
            "packages can be fetched on Debian only",
            code=Code.UNSUPPORTED,
            remedy="give --kernel, --modules and --initrd",
        )
    return system["VERSION_CODENAME"]


def _version() -> str:
    """``12``; empty where the system does not say."""
    return _system().get("VERSION_ID", "")


def _system() -> dict[str, str]:
    import platform

    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def _configuration(root: Path, arch: str) -> str:
    """apt's own configuration: everything below ``root``; proxies and timeouts as this machine has them."""
    acquire = _run(os.environ, ["apt-config", "dump", "--no-empty", "Acquire"])
    return f"""{acquire}
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Default-Release "{_codename()}";
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Get::List-Cleanup "true";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::State "{root}";
Dir::State::status "{root}/status";
Dir::State::lists "{root}/lists";
Dir::Cache "{root}";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "{root}/empty";
Dir::Etc::parts "{root}/empty";
Dir::Etc::preferencesparts "{root}/empty";
"""


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _RESERVE:
        raise MachineError(
            f"{folder} has {free / MIB:.0f} MiB free, {(needed + _RESERVE) / MIB:.0f} MiB are needed",
            code=Code.SYSTEM_ERROR,
            remedy=_NO_SPACE,
        )


def _name_and_version(file: str) -> str:
    """``libc6_2.36-9_arm64.deb`` names ``libc6=2.36-9`` (a colon of the version is written %3a)."""
    name, version, _ = file.split("_")
    return f"{name}={version.replace('%3a', ':')}"


def _line(deb: Path) -> str:
    with open(deb, "rb") as content:
        return f"{hashlib.file_digest(content, 'sha256').hexdigest()} {deb.name}"


def _by_number(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]{1,18}", name)]


def _run(environment: os._Environ[str] | dict[str, str], argv: list[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(argv, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    except FileNotFoundError as e:
        raise MachineError(
            f"{argv[0]} is not installed",
            code=Code.SYSTEM_ERROR,
            remedy="packages come through apt: give --kernel, --modules and --initrd",
        ) from e
    except subprocess.CalledProcessError as e:
        complaint = _complaint(e.stderr)
        remedy = _NO_SPACE if os.strerror(errno.ENOSPC) in complaint else _NO_NETWORK
        raise MachineError(f"{argv[0]}: {complaint}", code=Code.SYSTEM_ERROR, remedy=remedy) from e
    return done.stdout


def _complaint(stderr: str) -> str:
    lines = [line.removeprefix("E: ") for line in stderr.splitlines() if line.startswith("E: ")]
    return lines[0] if lines else (stderr.strip().splitlines() or ["failed without a word"])[-1]
