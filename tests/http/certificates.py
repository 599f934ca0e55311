"""Certificates made for a test, good and bad."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


class Certificates:
    """An authority in `ca`, and pairs of certificate and key by name."""

    def __init__(self, folder: Path) -> None:
        """Make the authority."""
        self.folder = folder
        self.ca = folder / "ca.pem"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        basic = x509.BasicConstraints(ca=True, path_length=None)
        self._certificate = self._build(self._name, self._name, self._key, -1, 30).add_extension(basic, critical=True)
        made = self._certificate.sign(self._key, hashes.SHA256())
        self.ca.write_bytes(made.public_bytes(serialization.Encoding.PEM))

    def _build(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, begin: int, end: int
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begin * DAY)
            .not_valid_after(now + end * DAY)
        )

    def pair(self, kind: str) -> tuple[Path, Path]:
        """Return the files of a certificate and its key: good, self-signed, expired or wrong-host."""
        key = ec.generate_private_key(ec.SECP256R1())
        begin, end = (-10, -5) if kind == "expired" else (-1, 30)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        address = "192.0.2.1" if kind == "wrong-host" else "127.0.0.1"
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        own = kind == "self-signed"
        builder = self._build(subject, subject if own else self._name, key, begin, end).add_extension(
            names, critical=False
        )
        made = builder.sign(key if own else self._key, hashes.SHA256())
        certificate, secret = self.folder / f"{kind}.pem", self.folder / f"{kind}.key"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, secret
