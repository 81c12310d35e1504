"""Certificates for OPC UA: RSA keys, the application's URI among the alternative names, good and bad.

Writes `NAME.pem`, `NAME.der` and `NAME.key` into `--out`, and prints the certificate's SHA-256.
"""

import argparse
import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--uri", default="urn:tidegate:rig:server")
    parser.add_argument("--host", default="127.0.0.1", help="an address or a name")
    parser.add_argument("--uri-last", action="store_true", help="after the host, as node-opcua does")
    parser.add_argument("--authority", action="store_true", help="one that signs others")
    parser.add_argument("--issuer", help="the NAME of an authority; signed by itself when left out")
    parser.add_argument("--revoke", help="the NAME of a certificate of this authority, for NAME.crl")
    parser.add_argument("--days-ago", type=float, default=1, help="when it became valid")
    parser.add_argument("--days", type=float, default=30, help="until when it is, from now")
    parser.add_argument("--bits", type=int, default=2048)
    return parser.parse_args()


def host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def read(out: Path, name: str):
    certificate = x509.load_pem_x509_certificate((out / f"{name}.pem").read_bytes())
    key = serialization.load_pem_private_key((out / f"{name}.key").read_bytes(), None)
    return certificate, key


def issue(told) -> x509.Certificate:
    key = rsa.generate_private_key(public_exponent=65537, key_size=told.bits)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, told.name)])
    issuer, signer = (name, key)
    issuer_key = key.public_key()
    if told.issuer:
        authority, signer = read(told.out, told.issuer)
        issuer, issuer_key = authority.subject, authority.public_key()
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"],
        False,
    )
    if not told.authority:
        usage.update(content_commitment=True, key_encipherment=True, data_encipherment=True)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - told.days_ago * DAY)
        .not_valid_after(now + told.days * DAY)
        .add_extension(x509.BasicConstraints(ca=told.authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=told.authority or not told.issuer, crl_sign=told.authority, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )
    if not told.authority:
        names = [x509.UniformResourceIdentifier(told.uri), host(told.host)]
        if told.uri_last:
            names.reverse()
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    certificate = builder.sign(signer, hashes.SHA256())
    place = told.out / told.name
    place.with_name(told.name + ".pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    place.with_name(told.name + ".der").write_bytes(certificate.public_bytes(serialization.Encoding.DER))
    place.with_name(told.name + ".key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate


def revoke(told) -> x509.Certificate:
    """A list of the one certificate that an authority takes back."""
    authority, key = read(told.out, told.name)
    revoked, _ = read(told.out, told.revoke)
    now = datetime.datetime.now(datetime.timezone.utc)
    entry = x509.RevokedCertificateBuilder().serial_number(revoked.serial_number).revocation_date(now - DAY / 24)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(now - DAY / 24)
        .next_update(now + told.days * DAY)
        .add_revoked_certificate(entry.build())
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
    )
    made = builder.sign(key, hashes.SHA256())
    (told.out / f"{told.name}.crl").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return revoked


if __name__ == "__main__":
    told = options()
    told.out.mkdir(parents=True, exist_ok=True)
    made = revoke(told) if told.revoke else issue(told)
    print(made.fingerprint(hashes.SHA256()).hex())
