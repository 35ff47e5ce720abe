#!/usr/bin/env python3
"""Makes `threadloom-base:ci` with no registry: Debian and Python as this machine has them, for `--build-arg BASE=threadloom-base:ci`.

A stand-in for `python:3.12-slim`: it tests the steps of our Dockerfiles, not the bits of Docker Hub. In it are Debian's required packages and
apt, with a package database cut to them, a Python with nothing but pip, and what a build needs to reach package indexes from here: this machine's
certificates and pip settings. Python is pyenv's 3.12 where there is one, else the newest from 3.11 on, of Debian if need be.
"""

import argparse
import ast
import hashlib
import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LABEL = "threadloom.base"
# Beyond what is required: indexes over TLS, packages, and what compiled wheels of other makers need.
PACKAGES = ("apt", "ca-certificates", "libstdc++6", "libgomp1", "netbase", "openssl", "tzdata")
LEFT_OUT = re.compile(r"/usr/share/(man|locale|info|lintian|doc/.*(?<!/copyright)$|zoneinfo/right)")
PYTHON_LEFT_OUT = re.compile(
    r"^(test|idlelib|tkinter|turtledemo|ensurepip|site-packages|config-.*)(/|$)|/_tkinter|__pycache__|\.a$"
)
FOLDERS = {
    **dict.fromkeys(("proc", "sys"), 0o555),
    **dict.fromkeys(("dev", "home", "media", "mnt", "opt", "run", "srv"), 0o755),
    **dict.fromkeys(("tmp", "var/tmp"), 0o1777),
    "root": 0o700,
    **dict.fromkeys(("var/lib/dpkg/updates", "var/lib/dpkg/triggers", "var/log"), 0o755),
    **dict.fromkeys(("var/lib/apt/lists/partial", "var/cache/apt/archives/partial"), 0o755),
}
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
DPKG = Path("/var/lib/dpkg")


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True)
class Python:
    """An installation. Debian's lies among Debian's files; any other is copied to /usr/local."""

    prefix: Path
    version: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"python{self.version[0]}.{self.version[1]}"

    @property
    def is_debian(self) -> bool:
        return self.prefix == Path("/usr")

    @property
    def library(self) -> Path:
        return self.prefix / "lib" / self.name


def find_python(prefix: Path | None) -> Python:
    """3.12 as in the Dockerfiles, else the newest."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    prefixes = [prefix] if prefix else [*versions.glob("3.*"), Path(sys.base_prefix), Path("/usr")]
    found = [
        Python(prefix, version)
        for prefix in prefixes
        if (version := version_of(prefix)) and version >= (3, 11)
    ]
    if not found:
        raise SystemExit(f"No Python from 3.11 on in {', '.join(map(str, prefixes))}.")
    return max(found, key=lambda python: (python.version[:2] == (3, 12), python.version))


def version_of(prefix: Path) -> tuple[int, ...] | None:
    command = prefix / "bin" / "python3"
    if not command.exists():
        return None
    said = output_of(str(command), "-c", "import sys; print(*sys.version_info[:3])")
    return tuple(map(int, said.split()))


class Packages:
    """Debian's, as they are installed here."""

    def __init__(self) -> None:
        fields = ("Package", "Essential", "Priority", "db:Status-Status", "binary:Package")
        relations = ("Depends", "Pre-Depends", "Provides")
        pattern = "\t".join(f"${{{field}}}" for field in (*fields, *relations)) + "\n"
        rows = [row.split("\t") for row in output_of("dpkg-query", "-Wf", pattern).splitlines()]
        self._rows = {row[0]: row for row in rows if row[3] == "installed"}
        self._providers = {
            name: row[0] for row in self._rows.values() for name in self._names(row[7])
        }

    def closure(self, wanted: Iterable[str]) -> set[str]:
        """What is required, and `wanted`, with all that they depend on."""
        essential = {
            row[0] for row in self._rows.values() if row[1] == "yes" or row[2] == "required"
        }
        chosen = essential | {name for name in wanted if name in self._rows}
        open_ends = list(chosen)
        while open_ends:
            row = self._rows[open_ends.pop()]
            new = set(self._dependencies(f"{row[5]},{row[6]}")) - chosen
            chosen |= new
            open_ends.extend(new)
        return chosen

    def files(self, names: set[str]) -> set[str]:
        """Without what only people read."""
        listed = output_of("dpkg-query", "-L", *(self._rows[name][4] for name in sorted(names)))
        return {
            path
            for path in listed.splitlines()
            if path.startswith("/") and path != "/." and not LEFT_OUT.match(path)
        }

    def _dependencies(self, relation: str) -> Iterator[str]:
        """Of each choice the first that is installed."""
        for choice in relation.split(","):
            for name in self._names(choice.replace("|", ",")):
                if found := name if name in self._rows else self._providers.get(name):
                    yield found
                    break

    @staticmethod
    def _names(relation: str) -> Iterator[str]:
        return (re.split("[ :]", part.strip())[0] for part in relation.split(",") if part.strip())


def owners(libraries: Iterable[Path]) -> set[str]:
    """The packages of all that these load."""
    loaded = re.findall(r"=> (/\S+)", output_of("ldd", *map(str, libraries)))
    patterns = sorted({f"*/{Path(path).name}" for path in loaded})
    # It fails for a library of no package, as its own may be.
    command = ["dpkg-query", "-S", *patterns]
    found = subprocess.run(command, check=False, capture_output=True, text=True)
    return {line.split(":")[0] for line in found.stdout.splitlines()}


class Root:
    """The image's root, as a stream of tar."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._there: set[str] = set()

    def add(self, path: str, name: str | None = None) -> None:
        """A file, link or folder of this machine; nothing if it is not there."""
        name = (name or in_place(path)).lstrip("/")
        if self._is_new(name) and os.path.lexists(path):
            member = self._tar.gettarinfo(path, name)
            member.uname = member.gname = ""
            if member.isfile():
                with Path(path).open("rb") as content:
                    self._tar.addfile(member, content)
            elif not member.isblk() and not member.ischr():
                self._tar.addfile(member)

    def write(self, name: str, content: bytes | str, mode: int = 0o644) -> None:
        data = content.encode() if isinstance(content, str) else content
        if self._is_new(name):
            member = self._member(name, mode)
            member.size = len(data)
            self._tar.addfile(member, io.BytesIO(data))

    def folder(self, name: str, mode: int) -> None:
        if self._is_new(name):
            member = self._member(name, mode)
            member.type = tarfile.DIRTYPE
            self._tar.addfile(member)

    def link(self, name: str, target: str) -> None:
        if self._is_new(name):
            member = self._member(name, 0o777)
            member.type = tarfile.SYMTYPE
            member.linkname = target
            self._tar.addfile(member)

    def _is_new(self, name: str) -> bool:
        new = name not in self._there
        self._there.add(name)
        return new

    @staticmethod
    def _member(name: str, mode: int) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.mode = mode
        member.mtime = int(time.time())
        return member


def in_place(path: str) -> str:
    """Where a file lies in truth: packages still list /bin and /lib, which are links into /usr."""
    return str(Path(path).parent.resolve() / Path(path).name)


def add_debian(root: Root, packages: Packages, names: set[str]) -> None:
    files = packages.files(names)
    places = {in_place(path) for path in files}
    links = {path for path in ("/bin", "/sbin", "/lib", "/lib64") if Path(path).is_symlink()}
    for path in sorted(files | links | set(links_to(places))):
        root.add(path)
    for name in ("passwd", "group"):
        root.write(f"etc/{name}", "".join(system_entries(Path("/etc", name))))
    for path in ("/etc/nsswitch.conf", "/etc/debian_version", "/etc/apt/sources.list"):
        root.add(path)
    for source in Path("/etc/apt/sources.list.d").glob("debian*.sources"):
        root.add(str(source))
    add_database(root, names)


def links_to(places: set[str]) -> Iterator[str]:
    """Links that no package lists: names of libraries that ldconfig made, and alternatives."""
    folders = {Path(place).parent for place in places if ".so" in place}
    for folder in (*folders, Path("/etc/alternatives"), Path("/usr/bin")):
        for entry in os.scandir(folder):
            if entry.is_symlink() and os.path.realpath(entry.path) in places:
                yield entry.path


def system_entries(path: Path) -> Iterator[str]:
    """Of /etc/passwd or /etc/group, no person's."""
    for line in path.read_text().splitlines(keepends=True):
        number = int(line.split(":")[2])
        if number < 100 or number == 65534:
            yield line.replace("/bin/zsh", "/bin/bash")


def add_database(root: Root, names: set[str]) -> None:
    """Debian's own of these packages, so that apt and dpkg work."""
    paragraphs = (DPKG / "status").read_text().split("\n\n")
    kept = [
        text for text in paragraphs if text.partition("\n")[0].removeprefix("Package: ") in names
    ]
    root.write("var/lib/dpkg/status", "\n\n".join(kept) + "\n")
    for path in sorted((DPKG / "info").iterdir()):
        if path.name == "format" or re.split("[.:]", path.name)[0] in names or path.stem in names:
            root.add(str(path))


def add_python(root: Root, python: Python) -> None:
    """`python`, `python3` and `pip` in /usr/local/bin, as in Docker Hub's."""
    if python.is_debian:
        # A virtual environment in /usr/local: Debian refuses to let pip install anywhere else.
        root.write(
            "usr/local/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n"
        )
        root.link(f"usr/local/bin/{python.name}", f"/usr/bin/{python.name}")
    else:
        add_installation(root, python)
    root.link("usr/local/bin/python3", python.name)
    root.link("usr/local/bin/python", python.name)
    pip = '#!/bin/sh\nexec /usr/local/bin/python3 -m pip "$@"\n'
    root.write("usr/local/bin/pip", pip, 0o755)
    root.link("usr/local/bin/pip3", "pip")
    add_pip(root, python)


def add_installation(root: Root, python: Python) -> None:
    root.add(str(python.prefix / "bin" / python.name), f"usr/local/bin/{python.name}")
    libraries = Path("/usr/lib", sysconfig.get_config_var("MULTIARCH"))
    for path in (python.prefix / "lib").glob("libpython*.so*"):
        # Where the loader looks without ldconfig.
        root.add(str(path), str(libraries / path.name))
    for folder, folders, names in os.walk(python.library):
        below = Path(folder).relative_to(python.library)
        folders[:] = [name for name in folders if not PYTHON_LEFT_OUT.search(str(below / name))]
        for name in names:
            if not PYTHON_LEFT_OUT.search(f"/{below / name}"):
                root.add(f"{folder}/{name}", f"usr/local/lib/{python.name}/{below / name}")


def add_pip(root: Root, python: Python) -> None:
    with zipfile.ZipFile(pip_wheel(python)) as wheel:
        for member in wheel.infolist():
            name = f"usr/local/lib/{python.name}/site-packages/{member.filename}"
            root.write(name, wheel.read(member))


def pip_wheel(python: Python) -> Path:
    """What `ensurepip` would install."""
    bundled = [python.library / "ensurepip" / "_bundled", Path("/usr/share/python-wheels")]
    wheels = [wheel for folder in bundled for wheel in folder.glob("pip-*.whl")]
    if not wheels:
        raise SystemExit(f"{python.name} of {python.prefix} has no pip: install python3-venv.")
    return wheels[0]


def pip_settings(python: Python) -> str:
    """How this machine's pip reaches its indexes, but for those that are folders here."""
    pip = pip_wheel(python) / "pip"  # Debian's Python has none installed
    kept = {"cert": f"/{CERTIFICATES}", "disable-pip-version-check": "true"}
    for line in output_of(sys.executable, str(pip), "config", "list").splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        remote = [url for url in str(ast.literal_eval(value)).split() if "file:" not in url]
        if key in {"index-url", "extra-index-url", "trusted-host", "default-timeout", "timeout"}:
            kept[key] = "\n  ".join(remote)
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in kept.items() if value)


def certificates() -> bytes:
    places = [os.environ.get("PIP_CERT"), os.environ.get("SSL_CERT_FILE"), f"/{CERTIFICATES}"]
    return next(Path(place).read_bytes() for place in places if place and Path(place).is_file())


def write_image(stream: IO[bytes], python: Python, settings: dict[str, bytes]) -> None:
    packages = Packages()
    extensions = [] if python.is_debian else (python.library / "lib-dynload").glob("*.so")
    wanted = {*PACKAGES, *owners(extensions)} if extensions else {*PACKAGES, python.name}
    with tarfile.open(fileobj=stream, mode="w|") as tar:
        root = Root(tar)
        for name, mode in FOLDERS.items():
            root.folder(name, mode)
        for name, content in settings.items():
            root.write(name, content)
        add_debian(root, packages, packages.closure(wanted))
        add_python(root, python)


def label_of(tag: str) -> str:
    """What the image of this name was made from; nothing if there is none."""
    form = f'{{{{index .Config.Labels "{LABEL}"}}}}'
    command = ["docker", "image", "inspect", tag, "--format", form]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def import_image(tag: str, label: str, python: Python, settings: dict[str, bytes]) -> None:
    changes = [
        "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
        "ENV LANG=C.UTF-8",
        'CMD ["python3"]',
        f"LABEL {LABEL}={label}",
    ]
    options = [word for change in changes for word in ("--change", change)]
    command = ["docker", "import", *options, "-", tag]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as importing:
        assert importing.stdin is not None
        with importing.stdin as stream:
            write_image(stream, python, settings)
    if importing.returncode:
        raise SystemExit(f"docker import ended with {importing.returncode}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tag", default="threadloom-base:ci")
    parser.add_argument("--python", type=Path, help="its prefix, as /usr")
    arguments = parser.parse_args()
    python = find_python(arguments.python)
    settings = {"etc/pip.conf": pip_settings(python).encode(), CERTIFICATES: certificates()}
    made_from = Path(__file__).read_bytes() + repr((python, settings)).encode()
    label = hashlib.sha256(made_from).hexdigest()[:16]
    version = ".".join(map(str, python.version))
    if label_of(arguments.tag) == label:
        print(f"{arguments.tag} is there, with Python {version}.")
        return
    started = time.monotonic()
    import_image(arguments.tag, label, python, settings)
    print(f"Made {arguments.tag}, with Python {version}, in {time.monotonic() - started:.1f} s.")


if __name__ == "__main__":
    main()
