"""Writes the wheel of prebuilt operators for the CPU: python .ci/wheel_ops.py FOLDER.

It holds no Python, only the libraries, in a folder named after the digest of the sources that they are made of;
cascadezoo loads them where its own sources have that digest.
"""

import base64
import hashlib
import os
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import cascadezoo
from cascadezoo.ops import building

NAME = "cascadezoo_ops"


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["CASCADEZOO_HOME"] = home
        print(write(Path(sys.argv[1]), [building.build(kind) for kind in ("cpu", building.SCHEMAS)]))


def write(out: Path, libraries: list[Path]) -> Path:
    """The wheel, in ``out``, of libraries that lie in the folder of their digest."""
    version, root = cascadezoo.__version__, Path(__file__).parents[1]
    tag = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    info = f"{NAME}-{version}.dist-info"
    inside = {f"{NAME}/{library.parent.name}/{library.name}": library.read_bytes() for library in libraries}
    inside |= {f"{info}/licenses/{name}": (root / name).read_bytes() for name in ("LICENSE", "NOTICE")}
    inside |= {
        f"{NAME}/__init__.py": b'"""Prebuilt operators of cascadezoo, which finds them by itself."""\n',
        f"{info}/METADATA": (
            f"Metadata-Version: 2.4\nName: {NAME.replace('_', '-')}\nVersion: {version}\n"
            "Summary: Prebuilt CPU operators of cascadezoo\n"
            "License-Expression: Apache-2.0\nLicense-File: LICENSE\nLicense-File: NOTICE\n"
            f"Requires-Dist: cascadezoo=={version}\n"
        ).encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: {NAME}\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    record = [f"{path},{_digest(content)},{len(content)}" for path, content in inside.items()]
    inside[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    out.mkdir(parents=True, exist_ok=True)
    wheel = out / f"{NAME}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in inside.items():
            archive.writestr(path, content)
    return wheel


def _digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    main()
