"""The keys of an installation's edge: `python -m catalyst.dns_proxy.authority --zone preview.example.org --out keys`.

```
root.crt, root.key                     valid ten years; the key is needed only here: keep it, out of the cluster
edge/root.crt, edge/tls.crt, tls.key   what the edges get: an intermediate that may sign names of our zones only
dns-proxy/root.crt, tls.crt, tls.key   what dns-proxy gets: by this the edges know it, and it knows them
```

Both are limited by name constraints: whoever takes an edge's key can make certificates for our own zones, for nobody
else's. Files that are there stay: run again, with the same folder, it only makes what is missing.
"""

import argparse
import base64
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from catalyst.dns_proxy.core.edge import ADMIN_NAME

YEARS: Final = timedelta(days=365)
Key = ec.EllipticCurvePrivateKey


def write_keys(folder: Path, zones: Sequence[str], *, now: datetime) -> None:
    """Makes what is missing in `folder`; see above. Raises OSError, ValueError."""
    root_key = _key(folder / "root.key")
    root = _certificate(folder / "root.crt", lambda: _root(root_key, zones, now))
    intermediate_key = _key(folder / "edge" / "tls.key")
    _certificate(folder / "edge" / "tls.crt", lambda: _intermediate(intermediate_key, root, root_key, now))
    client_key = _key(folder / "dns-proxy" / "tls.key")
    _certificate(folder / "dns-proxy" / "tls.crt", lambda: _client(client_key, now))
    for part in ("edge", "dns-proxy"):
        _write(folder / part / "root.crt", _pem(root))


def public_key(certificate: Path) -> str:
    """A PEM certificate as Caddy's access control wants it: base64 of its DER form. Raises OSError, ValueError."""
    loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    return base64.b64encode(loaded.public_bytes(serialization.Encoding.DER)).decode()


def _root(key: Key, zones: Sequence[str], now: datetime) -> x509.Certificate:
    permitted = [x509.DNSName(name) for name in (*zones, ADMIN_NAME)]
    name = _name("Catalyst edge")
    builder = _builder(name, name, key, now, 10 * YEARS, path_length=1)
    return builder.add_extension(x509.NameConstraints(permitted, None), critical=True).sign(key, hashes.SHA256())


def _intermediate(key: Key, root: x509.Certificate, root_key: Key, now: datetime) -> x509.Certificate:
    builder = _builder(_name("Catalyst edge, signing"), root.subject, key, now, 5 * YEARS, path_length=0)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
    return builder.add_extension(issuer, critical=False).sign(root_key, hashes.SHA256())


def _client(key: Key, now: datetime) -> x509.Certificate:
    """Signed by itself: an edge knows this one key, not whoever an authority vouches for."""
    name = _name("dns-proxy")
    builder = _builder(name, name, key, now, 5 * YEARS, path_length=None)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    return builder.add_extension(usage, critical=False).sign(key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, now: datetime, valid: timedelta, *, path_length: int | None
) -> x509.CertificateBuilder:
    signs = path_length is not None
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + valid)
        .add_extension(x509.BasicConstraints(ca=signs, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key(path: Path) -> Key:
    if path.exists():
        loaded = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{path}: expected an elliptic-curve key, as this tool makes them")
        return loaded
    key = ec.generate_private_key(ec.SECP256R1())
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, encoded)
    return key


def _certificate(path: Path, made: Callable[[], x509.Certificate]) -> x509.Certificate:
    if path.exists():
        return x509.load_pem_x509_certificate(path.read_bytes())
    certificate = made()
    _write(path, _pem(certificate))
    return certificate


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, content: bytes) -> None:
    """Keys are readable by us alone, from the first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600 if path.suffix == ".key" else 0o644)
    path.write_bytes(content)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Makes the keys of an installation's edge.")
    parser.add_argument("--zone", action="append", required=True, help="a DNS zone of environments; may be repeated")
    parser.add_argument("--out", type=Path, required=True, help="folder for the keys")
    options = parser.parse_args(argv)
    try:
        write_keys(options.out, options.zone, now=datetime.now(UTC))
    except (OSError, ValueError) as exc:
        sys.stderr.write(f"authority: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
