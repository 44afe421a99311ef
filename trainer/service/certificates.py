"""The certificate of the edge: one that the user gives, or one of a certificate authority made here for trying."""

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trainer.core.errors import SettingsError

__all__ = ["check", "make"]

_CA_DAYS = 3650
_SERVER_DAYS = 397  # browsers refuse longer ones
_RENEW_DAYS = 30
_LOCAL = ("localhost", "127.0.0.1")


def make(folder: Path, hosts: Sequence[str]) -> None:
    """Make `ca.crt`, `ca.key`, `server.crt` and `server.key` where they are missing.

    A server certificate of this authority is made again when it expires within 30 days or lacks a host. Without
    `ca.key` the files are the user's own and stay as they are.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority, certificate = folder / "ca.crt", folder / "server.crt"
    if not any((folder / name).exists() for name in ("ca.crt", "ca.key", "server.crt", "server.key")):
        key = ec.generate_private_key(ec.SECP256R1())
        _write_key(folder / "ca.key", key)
        _write(authority, _authority(key).public_bytes(serialization.Encoding.PEM), 0o644)
    if not (folder / "ca.key").exists() or (certificate.exists() and _is_current(_read(certificate), hosts)):
        return
    own = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    if not isinstance(own, ec.EllipticCurvePrivateKey):
        raise SettingsError(
            f"{folder / 'ca.key'} must be the key that init.sh made. Remove it when ca.crt is your own."
        )
    key = ec.generate_private_key(ec.SECP256R1())
    signed = _server(key, _read(authority), own, hosts)
    _write_key(folder / "server.key", key)
    _write(certificate, signed.public_bytes(serialization.Encoding.PEM), 0o644)


def check(folder: Path) -> None:
    """Raise SettingsError when the server's certificate is missing, unreadable, expired or not of its key."""
    path = folder / "server.crt"
    certificate = _read(path)
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise SettingsError(
            f"{path} must be valid now, but is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}. Put a new certificate there."
        )
    key_path = folder / "server.key"
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"Cannot read the key {key_path} ({error}). It must be PEM without a password.") from error
    if _bytes(key.public_key()) != _bytes(certificate.public_key()):
        raise SettingsError(f"{key_path} must be the key of {path}, but is another. Put both files of one pair there.")


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"Cannot read the certificate {path} ({error}). It must be a PEM file.") from error


def _is_current(certificate: x509.Certificate, hosts: Sequence[str]) -> bool:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    return set(_alternative_names(hosts)) <= set(names) and left > datetime.timedelta(days=_RENEW_DAYS)


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Emotions service, made for trying")])
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return (
        _builder(name, name, key, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def _server(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
) -> x509.Certificate:
    issuer = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    return (
        _builder(name, authority.subject, key, _SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_alternative_names(hosts)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # the clock of a client may be slow
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _alternative_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys((*hosts, *_LOCAL)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, text, 0o600)


def _write(path: Path, content: bytes, mode: int) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    partial.replace(path)
