"""Certificates for brokers and their clients, made by openssl for one test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NEEDED = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def _openssl(*arguments: str | Path) -> bool:
    command = ["openssl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Certificates:
    """A CA in a folder, and what it has signed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ca = folder / "ca.pem"
        made = _openssl(
            *("req", "-x509", *_KEY, "-keyout", folder / "ca.key", "-out", self.ca),
            *("-days", "2", "-subj", f"/CN=tests {folder.name}"),
        )
        assert made, "openssl made no CA"

    def sign(
        self, name: str, *, hosts: str = "DNS:localhost,IP:127.0.0.1", expired: bool = False
    ) -> tuple[Path, Path]:
        """A certificate for ``hosts``, and its key."""
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        request, names = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        names.write_text(f"subjectAltName={hosts}\n")
        assert _openssl("req", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        signing = (
            *("x509", "-req", "-in", request, "-out", certificate, "-extfile", names),
            *("-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial"),
        )
        # Older versions can only count days, newer ones no negative ones.
        spans = [
            ("-days", "-1"),
            ("-not_before", "20200101000000Z", "-not_after", "20200102000000Z"),
        ]
        if not expired:
            spans = [("-days", "2")]
        assert any(_openssl(*signing, *span) for span in spans), f"openssl signed no {name}"
        return certificate, key


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
