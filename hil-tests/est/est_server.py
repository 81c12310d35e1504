"""An authority by other hands: EST (RFC 7030), OCSP (RFC 6960) and a CRL, on cryptography and the
standard library alone. None of the product's code, and none of its libraries.

Two ports on 127.0.0.1:
    EST      TLS, a client certificate is asked for and not required
             GET  /.well-known/est/cacerts
             POST /.well-known/est/simpleenroll     token (Basic or Bearer) or client certificate
             POST /.well-known/est/simplereenroll   client certificate of the same subject
    web      plain HTTP: what a certificate points at, and what a scenario steers by
             POST /ocsp, GET /ocsp/BASE64           answers signed by the authority
             GET  /crl, /crl.pem                    ?state=expired|future|foreign|malformed|huge
             POST /set, /token, /revoke, /issue     JSON in, JSON out
             GET  /log                              what was asked and answered, oldest first

Certificates may live for seconds, may begin in the past or the future, and carry the addresses of
OCSP and CRL. Faults are switched at run time by /set, for simpleenroll and simplereenroll, or for
cacerts when "on" says so:
    ok           as it should be
    junk         base64 of noise            empty        an envelope without certificates
    other-key    signed, for another key    wrong-name   signed, for another gateway
    no-client    signed, for servers alone  wrong-ca     signed by an authority nobody trusts
    not-yet      valid in an hour           expired      was valid a minute ago
    unavailable  503                        pending      202 with Retry-After
    refuse       403                        redirect     302 elsewhere
    hang         never an answer            drip         a byte each half second
    large        four million bytes         cut          hangs up in the middle of the answer

Everything is kept below --dir, so that it goes on after it was killed. One line of JSON says where it
is, then it serves.
"""

import argparse
import base64
import datetime
import ipaddress
import json
import os
import secrets
import ssl
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs7,
)
from cryptography.x509 import ocsp
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    NameOID,
)

HOST = "127.0.0.1"
EST = "/.well-known/est/"
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def seconds(count: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=count)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def name_of(common: str, organisation: str | None) -> x509.Name:
    parts = [] if organisation is None else [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation)]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def pem(key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


class Authority:
    """A root, what it signs below, and what it has signed."""

    def __init__(self, folder: Path, name: str, has_intermediate: bool) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.root_key, self.root = self._authority("root", f"{name} root", None)
        if has_intermediate:
            self.key, self.certificate = self._authority("issuing", f"{name} issuing", self.root)
        else:
            self.key, self.certificate = self.root_key, self.root

    def _authority(self, file: str, name: str, above: x509.Certificate | None):
        key_file, file = self.folder / f"{file}.key", self.folder / f"{file}.pem"
        if file.exists():
            key = load_pem_private_key(key_file.read_bytes(), None)
            return key, x509.load_pem_x509_certificate(file.read_bytes())
        key = ec.generate_private_key(ec.SECP256R1())
        subject = name_of(name, "Another authority")
        signer = self.root_key if above else key
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(above.subject if above else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now() - seconds(3600))
            .not_valid_after(now() + seconds(10 * 365 * 86400))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(key_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
            )
            .sign(signer, hashes.SHA256())
        )
        write(key_file, pem(key))
        write(file, certificate.public_bytes(Encoding.PEM))
        return key, certificate

    def chain(self) -> list[x509.Certificate]:
        return [self.root] if self.certificate is self.root else [self.certificate, self.root]

    def sign(self, subject, public_key, names, usages, begins, ends, web=None) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if web:
            place = x509.UniformResourceIdentifier(f"{web}/ocsp")
            access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, place)
            list_at = [x509.UniformResourceIdentifier(f"{web}/crl")]
            point = x509.DistributionPoint(list_at, None, None, None)
            builder = builder.add_extension(
                x509.AuthorityInformationAccess([access]), critical=False
            ).add_extension(x509.CRLDistributionPoints([point]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


class Settings:
    """What /set changes."""

    def __init__(self) -> None:
        self.mode = "ok"
        # Which operations misbehave, and how often before all is well again.
        self.on = ["simpleenroll", "simplereenroll"]
        self.times = None
        self.lifetime = 86400.0
        self.backdate = 2.0
        self.retry_after = 2
        # How long each answer takes.
        self.delay = 0.0
        self.auth = "basic"
        # Whether certificates name the places of OCSP and CRL.
        self.pointers = True
        self.crl_lifetime = 3600.0
        self.ocsp_lifetime = 5.0
        self.ocsp_mode = "ok"

    def take(self, wishes: dict) -> None:
        for wish, value in wishes.items():
            wish = wish.replace("-", "_")
            if not hasattr(self, wish):
                raise ValueError(f"nothing is called {wish}")
            setattr(self, wish, value)

    def mode_for(self, operation: str) -> str:
        if self.mode == "ok" or operation not in self.on or self.times == 0:
            return "ok"
        if self.times is not None:
            self.times -= 1
        return self.mode


class Oracle:
    """The whole: authority, tokens, revocations, log."""

    def __init__(self, folder: Path, has_intermediate: bool) -> None:
        self.folder = folder
        self.lock = threading.Lock()
        self.authority = Authority(folder / "ca", "Oracle", has_intermediate)
        self.foreign = Authority(folder / "foreign", "Foreign", False)
        self.settings = Settings()
        self.log: list[dict] = []
        self.web = ""
        self.state_file = folder / "state.json"
        self.state = {"tokens": [], "revoked": {}, "issued": {}}
        if self.state_file.exists():
            self.state = json.loads(self.state_file.read_text())

    def keep(self) -> None:
        draft = self.state_file.with_suffix(".new")
        draft.write_text(json.dumps(self.state))
        draft.replace(self.state_file)

    def note(self, certificate: x509.Certificate) -> str:
        serial = format(certificate.serial_number, "x")
        self.state["issued"][serial] = certificate.subject.rfc4514_string()
        self.keep()
        return serial

    def issue(self, wish: dict) -> dict:
        """A certificate with a key made here: hubs, readers, bootstrap certificates."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = []
        for host in wish.get("hosts", []):
            try:
                names.append(x509.IPAddress(ipaddress.ip_address(host)))
            except ValueError:
                names.append(x509.DNSName(host))
        usages = {"server": [SERVER, CLIENT], "client": [CLIENT]}[wish.get("kind", "client")]
        begins = now() + seconds(wish.get("begins", -self.settings.backdate))
        ends = begins + seconds(wish.get("lifetime", self.settings.lifetime))
        authority = self.foreign if wish.get("foreign") else self.authority
        certificate = authority.sign(
            name_of(wish["name"], wish.get("organisation", "Tidegate")),
            key.public_key(),
            names,
            usages,
            begins,
            ends,
            self.web if self.settings.pointers else None,
        )
        serial = self.note(certificate)
        chain = b"".join(one.public_bytes(Encoding.PEM) for one in authority.chain()[:-1])
        cert = certificate.public_bytes(Encoding.PEM) + chain
        return {"cert": cert.decode(), "key": pem(key).decode(), "serial": serial}

    def crl(self, state: str) -> bytes:
        authority = self.foreign if state == "foreign" else self.authority
        begins, ends = now() - seconds(60), now() + seconds(self.settings.crl_lifetime)
        if state == "expired":
            begins, ends = now() - seconds(86400 * 30), now() - seconds(86400)
        if state == "future":
            begins = now() + seconds(3600)
            ends = begins + seconds(3600)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.certificate.subject)
            .last_update(begins)
            .next_update(ends)
            .add_extension(x509.CRLNumber(int(now().timestamp())), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
                critical=False,
            )
        )
        revoked = list(self.state["revoked"])
        if state == "huge":
            revoked += [format(secrets.randbits(150) | 1, "x") for _ in range(20000)]
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16))
            builder = builder.add_revoked_certificate(entry.revocation_date(begins).build())
        whole = builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.DER)
        return whole[: len(whole) // 2] if state == "malformed" else whole

    def ocsp(self, request: bytes) -> bytes:
        asked = ocsp.load_der_ocsp_request(request)
        serial = format(asked.serial_number, "x")
        mode = self.settings.ocsp_mode
        if mode == "try-later":
            unavailable = ocsp.OCSPResponseStatus.TRY_LATER
            return ocsp.OCSPResponseBuilder.build_unsuccessful(unavailable).public_bytes(Encoding.DER)
        is_revoked = serial in self.state["revoked"]
        known = serial in self.state["issued"] and mode != "unknown"
        status = ocsp.OCSPCertStatus.GOOD if known else ocsp.OCSPCertStatus.UNKNOWN
        if is_revoked:
            status = ocsp.OCSPCertStatus.REVOKED
        builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
            issuer_name_hash=asked.issuer_name_hash,
            issuer_key_hash=asked.issuer_key_hash,
            serial_number=asked.serial_number,
            algorithm=asked.hash_algorithm,
            cert_status=status,
            this_update=now() - seconds(2),
            next_update=now() + seconds(self.settings.ocsp_lifetime),
            revocation_time=now() - seconds(2) if is_revoked else None,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, self.authority.certificate)
        key = self.foreign.key if mode == "foreign" else self.authority.key
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    oracle: Oracle

    def log_message(self, *_) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def answer(self, status: int, body: bytes, kind: str = "text/plain", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


class Refusal(Exception):
    def __init__(self, status: int, said: str, **headers: str) -> None:
        super().__init__(said)
        self.status, self.headers = status, headers


class EstHandler(Handler):
    def setup(self) -> None:
        # In the thread of the connection: one that stalls in its handshake holds up nobody.
        self.request.settimeout(30)
        self.request.do_handshake()
        super().setup()

    def do_GET(self) -> None:
        self.operate("GET", b"")

    def do_POST(self) -> None:
        self.operate("POST", self.body())

    def operate(self, method: str, body: bytes) -> None:
        operation = self.path.removeprefix(EST)
        peer = self.connection.getpeercert(binary_form=True)
        self.peer = x509.load_der_x509_certificate(peer) if peer else None
        entry = {
            "operation": operation,
            "shown": self.peer.subject.rfc4514_string() if self.peer else None,
            "shown-serial": format(self.peer.serial_number, "x") if self.peer else None,
            "authorization": (self.headers.get("Authorization") or "").split(" ")[0].lower() or None,
            "tls": self.connection.version(),
        }
        oracle = self.oracle
        with oracle.lock:
            mode = oracle.settings.mode_for(operation)
            delay = oracle.settings.delay
            entry["mode"] = mode
            try:
                certificates = self.decide(method, operation, body, mode, entry)
                entry["status"] = 200
            except Refusal as refusal:
                entry["status"] = refusal.status
                answer = (refusal.status, str(refusal).encode(), refusal.headers)
            oracle.log.append(entry)
        if delay:
            threading.Event().wait(delay)
        if entry["status"] != 200:
            self.answer(answer[0], answer[1], **answer[2])
        else:
            self.deliver(mode, certificates)

    def decide(self, method, operation, body, mode, entry) -> list[x509.Certificate]:
        oracle = self.oracle
        settings = oracle.settings
        if mode == "unavailable":
            raise Refusal(503, "the database is away")
        if mode == "pending":
            raise Refusal(202, "", Retry_After=str(settings.retry_after))
        if mode == "refuse":
            raise Refusal(403, "not today")
        if mode == "redirect":
            raise Refusal(302, "", Location=f"https://{HOST}:1{EST}{operation}")
        if operation == "cacerts" and method == "GET":
            if mode == "wrong-ca":
                return oracle.foreign.chain()
            return oracle.authority.chain()
        if method != "POST" or operation not in ("simpleenroll", "simplereenroll"):
            raise Refusal(404, "no such operation")
        try:
            request = x509.load_der_x509_csr(base64.b64decode(body))
        except ValueError:
            raise Refusal(400, "no PKCS #10") from None
        if not request.is_signature_valid:
            raise Refusal(400, "the request is not signed by its key")
        spent = self.admit(operation, request)
        certificate = self.sign(request, mode)
        # Only now, so that a refusal costs no token.
        if spent:
            oracle.state["tokens"].remove(spent)
        entry["serial"] = oracle.note(certificate)
        entry["subject"] = certificate.subject.rfc4514_string()
        return [certificate]

    def admit(self, operation: str, request: x509.CertificateSigningRequest) -> str | None:
        oracle = self.oracle
        if self.peer is not None:
            if format(self.peer.serial_number, "x") in oracle.state["revoked"]:
                raise Refusal(403, "the certificate is revoked")
            if operation == "simplereenroll":
                # RFC 7030, 4.2.2: subject and alternative names are those of the old one.
                if request.subject != self.peer.subject:
                    raise Refusal(403, "the request is for another subject")
                if names_of(request) != names_of(self.peer):
                    raise Refusal(403, "the request is for other names")
            return None
        if operation == "simplereenroll":
            raise Refusal(403, "show the certificate that is to be renewed")
        challenge = {"WWW_Authenticate": f'{oracle.settings.auth.title()} realm="est"'}
        scheme, _, said = (self.headers.get("Authorization") or "").partition(" ")
        if scheme.lower() != oracle.settings.auth:
            raise Refusal(401, "say who you are", **challenge)
        if scheme.lower() == "basic":
            said = base64.b64decode(said).decode().partition(":")[2]
        if said not in oracle.state["tokens"]:
            raise Refusal(401, "no such token", **challenge)
        return said

    def sign(self, request, mode: str) -> x509.Certificate:
        oracle = self.oracle
        settings = oracle.settings
        subject, key, usages = request.subject, request.public_key(), [CLIENT]
        begins = now() - seconds(settings.backdate)
        ends = begins + seconds(settings.backdate + settings.lifetime)
        authority = oracle.authority
        if mode == "other-key":
            key = ec.generate_private_key(ec.SECP256R1()).public_key()
        if mode == "wrong-name":
            subject = name_of("Elsewhere/other", "Tidegate")
        if mode == "no-client":
            usages = [SERVER]
        if mode == "wrong-ca":
            authority = oracle.foreign
        if mode == "not-yet":
            begins = now() + seconds(3600)
            ends = begins + seconds(settings.lifetime)
        if mode == "expired":
            begins, ends = now() - seconds(3600), now() - seconds(60)
        pointers = oracle.web if settings.pointers else None
        return authority.sign(subject, key, names_of(request), usages, begins, ends, pointers)

    def deliver(self, mode: str, certificates: list[x509.Certificate]) -> None:
        body = base64.encodebytes(pkcs7.serialize_certificates(certificates, Encoding.DER))
        kind = "application/pkcs7-mime; smime-type=certs-only"
        if mode == "junk":
            body = base64.encodebytes(os.urandom(700))
        if mode == "empty":
            body = b"MCMGCSqGSIb3DQEHAqAWMBQCAQExADALBgkqhkiG9w0BBwExAA=="
        if mode == "large":
            body = b"A" * 4_000_000
        if mode == "hang":
            threading.Event().wait(600)
        try:
            if mode in ("drip", "cut"):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if mode == "cut":
                    self.wfile.write(body[: len(body) // 2])
                    self.close_connection = True
                    return
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    threading.Event().wait(0.5)
            else:
                self.answer(200, body, kind, Content_Transfer_Encoding="base64")
        except OSError:
            # Whoever asked has given up.
            self.close_connection = True


def names_of(holder) -> list:
    try:
        return list(holder.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


class WebHandler(Handler):
    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        state = dict(urllib.parse.parse_qsl(url.query)).get("state", "ok")
        with self.oracle.lock:
            if url.path == "/crl":
                self.answer(200, self.oracle.crl(state), "application/pkix-crl")
            elif url.path == "/crl.pem":
                text = base64.encodebytes(self.oracle.crl(state)).decode()
                text = f"-----BEGIN X509 CRL-----\n{text}-----END X509 CRL-----\n"
                self.answer(200, text.encode(), "application/x-pem-file")
            elif url.path.startswith("/ocsp/"):
                request = base64.b64decode(urllib.parse.unquote(url.path.removeprefix("/ocsp/")))
                self.answer_ocsp(request)
            elif url.path == "/log":
                self.answer(200, json.dumps(self.oracle.log).encode(), "application/json")
            else:
                self.answer(404, b"no such thing")

    def do_POST(self) -> None:
        body = self.body()
        with self.oracle.lock:
            if self.path == "/ocsp":
                self.answer_ocsp(body)
                return
            try:
                done = self.steer(json.loads(body or b"{}"))
            except (KeyError, ValueError) as error:
                self.answer(400, str(error).encode())
                return
            self.answer(200, json.dumps(done).encode(), "application/json")

    def answer_ocsp(self, request: bytes) -> None:
        self.oracle.log.append({"operation": "ocsp"})
        self.answer(200, self.oracle.ocsp(request), "application/ocsp-response")

    def steer(self, wish: dict):
        oracle = self.oracle
        if self.path == "/set":
            oracle.settings.take(wish)
            return {}
        if self.path == "/token":
            token = wish.get("token") or secrets.token_urlsafe(18)
            oracle.state["tokens"].append(token)
            oracle.keep()
            return {"token": token}
        if self.path == "/revoke":
            serial = format(int(wish["serial"], 16), "x")
            oracle.state["revoked"][serial] = True
            oracle.keep()
            return {"known": serial in oracle.state["issued"]}
        if self.path == "/issue":
            return oracle.issue(wish)
        raise ValueError(f"nothing is called {self.path}")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_) -> None:
        # Handshakes that fail are what many scenarios are about.
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--intermediate", action="store_true", help="signs below the root")
    parser.add_argument("--est-port", type=int, default=0)
    parser.add_argument("--web-port", type=int, default=0)
    arguments = parser.parse_args()

    oracle = Oracle(arguments.dir, arguments.intermediate)
    Handler.oracle = oracle
    web = Server((HOST, arguments.web_port), WebHandler)
    oracle.web = f"http://{HOST}:{web.server_port}"
    own = oracle.issue(
        {"name": "est", "organisation": None, "kind": "server", "hosts": [HOST, "localhost"], "lifetime": 864000}
    )
    write(arguments.dir / "est.pem", own["cert"].encode())
    write(arguments.dir / "est.key", own["key"].encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(arguments.dir / "est.pem", arguments.dir / "est.key")
    context.load_verify_locations(arguments.dir / "ca" / "root.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    est = Server((HOST, arguments.est_port), EstHandler)
    est.socket = context.wrap_socket(est.socket, server_side=True, do_handshake_on_connect=False)
    root = oracle.authority.root
    description = {
        "est": f"https://{HOST}:{est.server_port}",
        "web": oracle.web,
        "root": str(arguments.dir / "ca" / "root.pem"),
        "foreign": str(arguments.dir / "foreign" / "root.pem"),
        "pin": root.fingerprint(hashes.SHA256()).hex(),
        "foreign-pin": oracle.foreign.root.fingerprint(hashes.SHA256()).hex(),
    }
    threading.Thread(target=web.serve_forever, daemon=True).start()
    print(json.dumps(description), flush=True)
    est.serve_forever()


if __name__ == "__main__":
    main()
