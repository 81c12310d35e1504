"""An EST client by other hands (RFC 7030), on cryptography and the standard library alone: what any
other product's client would do at our server, and what none should get away with.

Each command prints one JSON object; "status" is what HTTP said, or "tls" what TLS did.
    cacerts                             roots, as PEM
    enroll   --token T --scheme S       certificate for a new key
    reenroll --cert C --key K           certificate for a new key, by mutual TLS
    crl                                 number, times and serial numbers, verified by the root
The request's subject is --subject, and --san adds DNS names to it that nobody promised.
"""

import argparse
import base64
import http.client
import json
import ssl
import urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs7,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID


def ask(arguments, method: str, path: str, body: bytes | None = None, headers=None):
    """Status, headers and body."""
    url = urllib.parse.urlsplit(arguments.url)
    context = ssl.create_default_context(cafile=arguments.root)
    if arguments.cert:
        context.load_cert_chain(arguments.cert, arguments.key)
    connection = http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=20)
    connection.request(method, path, body=body, headers=headers or {})
    answer = connection.getresponse()
    fields = {name.lower(): value for name, value in answer.getheaders()}
    return answer.status, fields, answer.read()


def request(arguments):
    key = ec.generate_private_key(ec.SECP256R1())
    if arguments.kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    common, _, organisation = arguments.subject.partition(",")
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else []
    if organisation:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(parts))
    if arguments.san:
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in arguments.san])
        builder = builder.add_extension(names, critical=False)
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(usages, critical=False)
    digest = None if arguments.kind == "ed25519" else hashes.SHA256()
    der = builder.sign(key, digest).public_bytes(Encoding.DER)
    if arguments.forge:
        # Somebody else's request, or a damaged one: the signature does not fit.
        der = der[:-1] + bytes([der[-1] ^ 1])
    return key, base64.encodebytes(der)


def unwrapped(body: bytes) -> list[x509.Certificate]:
    return pkcs7.load_der_pkcs7_certificates(base64.b64decode(body))


def described(certificate: x509.Certificate) -> dict:
    def extension(oid):
        try:
            return certificate.extensions.get_extension_for_oid(oid).value
        except x509.ExtensionNotFound:
            return []

    usages = [usage._name for usage in extension(ExtensionOID.EXTENDED_KEY_USAGE)]
    names = [str(name.value) for name in extension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)]
    lasts = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return {
        "subject": certificate.subject.rfc4514_string(),
        "serial": format(certificate.serial_number, "x"),
        "usages": usages,
        "names": names,
        "lasts": lasts.total_seconds(),
        "pem": certificate.public_bytes(Encoding.PEM).decode(),
    }


def enroll(arguments, operation: str) -> dict:
    key, body = request(arguments)
    headers = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
    if arguments.token and arguments.scheme == "basic":
        pair = base64.b64encode(f"anybody:{arguments.token}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    elif arguments.token:
        headers["Authorization"] = f"Bearer {arguments.token}"
    if arguments.padding:
        body += b"\n" * arguments.padding
    status, fields, body = ask(arguments, "POST", f"/.well-known/est/{operation}", body, headers)
    if status != 200:
        challenge = fields.get("www-authenticate")
        return {"status": status, "said": body.decode(), "challenge": challenge}
    (certificate,) = unwrapped(body)
    root = x509.load_pem_x509_certificate(open(arguments.root, "rb").read())
    certificate.verify_directly_issued_by(root)
    is_own = certificate.public_key() == key.public_key()
    if arguments.keep:
        with open(f"{arguments.keep}.pem", "wb") as file:
            file.write(certificate.public_bytes(Encoding.PEM))
        with open(f"{arguments.keep}.key", "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {"status": status, "own-key": is_own, **described(certificate)}


def crl(arguments) -> dict:
    status, _, body = ask(arguments, "GET", "/crl")
    listed = x509.load_der_x509_crl(body)
    root = x509.load_pem_x509_certificate(open(arguments.root, "rb").read())
    number = listed.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    lasts = listed.next_update_utc - listed.last_update_utc
    return {
        "status": status,
        "signed": listed.is_signature_valid(root.public_key()),
        "issuer": listed.issuer.rfc4514_string() == root.subject.rfc4514_string(),
        "number": number,
        "lasts": lasts.total_seconds(),
        "serials": [format(one.serial_number, "x") for one in listed],
    }


def cacerts(arguments) -> dict:
    status, fields, body = ask(arguments, "GET", "/.well-known/est/cacerts")
    roots = [described(one) for one in unwrapped(body)]
    return {"status": status, "kind": fields.get("content-type"), "roots": roots}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["cacerts", "enroll", "reenroll", "crl"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--token")
    parser.add_argument("--scheme", choices=["basic", "bearer"], default="basic")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--subject", default="", help="COMMON[,ORGANISATION]")
    parser.add_argument("--san", action="append", default=[])
    parser.add_argument("--kind", choices=["p256", "ed25519"], default="p256")
    parser.add_argument("--forge", action="store_true")
    parser.add_argument("--padding", type=int, default=0)
    parser.add_argument("--keep", help="writes KEEP.pem and KEEP.key")
    arguments = parser.parse_args()
    commands = {
        "cacerts": cacerts,
        "crl": crl,
        "enroll": lambda wish: enroll(wish, "simpleenroll"),
        "reenroll": lambda wish: enroll(wish, "simplereenroll"),
    }
    try:
        done = commands[arguments.command](arguments)
    except (ssl.SSLError, ConnectionError) as error:
        done = {"tls": str(error)}
    print(json.dumps(done))


if __name__ == "__main__":
    main()
