use std::net::SocketAddr;

use super::*;
use crate::spec::{Policy, Thumbprint};

const BEST: Security = Security::Protected { policy: None, mode: Mode::SignAndEncrypt };

fn at() -> SocketAddr {
    "192.0.2.7:4840".parse().unwrap()
}

struct Case {
    security: Security,
    user: UserSpec,
    whence: Whence,
    clock: Option<Clock>,
    config: Option<&'static str>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            security: BEST,
            user: UserSpec::Anonymous,
            whence: Whence::Gateway,
            clock: None,
            config: Some("t.toml"),
        }
    }
}

impl Case {
    fn says(&self, cause: &Cause) -> String {
        let url = EndpointUrl::parse("opc.tcp://plc:4840/UA").unwrap();
        let ours = Ours { uri: "urn:tidegate:P:g".into(), whence: self.whence.clone() };
        let context = Context {
            url: &url,
            security: self.security,
            user: &self.user,
            ours: Some(&ours),
            clock: self.clock,
            config: self.config,
        };
        sentence(cause, &context)
    }
}

fn status(stage: Stage, status: S) -> Cause {
    Cause::Status { stage, status, said: String::new() }
}

fn password() -> UserSpec {
    UserSpec::Password { name: "line3".into(), file: "/etc/tidegate/plc.pw".into() }
}

fn unknown() -> Cause {
    Cause::Distrust(Distrust {
        kind: DistrustKind::Unknown,
        text: "certificate abab of \"CN=press\" is not approved; approve it".into(),
        thumbprint: Some(Thumbprint([0xab; 32])),
    })
}

#[test]
fn each_cause_has_its_own_sentence_with_a_remedy() {
    let waited = Duration::from_secs(4);
    let case = Case::default();
    let causes = [
        (
            Cause::NoSuchName { host: "plc".into(), said: "not known".into() },
            "the name plc has no address (not known): ",
        ),
        (Cause::Refused { at: at() }, "192.0.2.7:4840 refuses connections: "),
        (Cause::NoAnswer { at: at(), waited }, "does not answer within 4.0s: check cable"),
        (Cause::NoWay { at: at(), said: "no route".into() }, "there is no way to 192.0.2.7:4840"),
        (Cause::NotOpcua { met: Greeting::Http, waited }, "is a web server"),
        (Cause::NotOpcua { met: Greeting::Tls, waited }, "speaks TLS"),
        (Cause::NotOpcua { met: Greeting::Closed, waited }, "closes them at the first message"),
        (Cause::NotOpcua { met: Greeting::Silent, waited }, "says nothing within 4.0s"),
        (Cause::NotOpcua { met: Greeting::Foreign(b"SSH-".to_vec()), waited }, "53 53 48 2d"),
        (
            Cause::HelloRefused { status: S::BadTcpEndpointUrlInvalid.bits(), reason: "x".into() },
            "knows no endpoint opc.tcp://plc:4840/UA (BadTcpEndpointUrlInvalid, \"x\")",
        ),
        (
            Cause::NoEndpoint { offered: vec![(OfferedPolicy::None, OfferedMode::None)] },
            "has no endpoint with any current policy and SignAndEncrypt, only None: switch on",
        ),
        (unknown(), "\"tidegate identity trust approve abababababababab --config t.toml\""),
        (
            Cause::NoToken { taken: vec![TokenKind::UserName] },
            "takes no anonymous users, only a name and a password (--user, --password-file)",
        ),
        (
            status(Stage::Channel, S::BadSecurityChecksFailed),
            "does not accept our certificate (BadSecurityChecksFailed): export ours with \"tidegate \
             identity opcua export --der --config t.toml\" and put it into the server's trusted",
        ),
        (status(Stage::Channel, S::BadConnectionClosed), "as some servers do that do not know our"),
        (status(Stage::Channel, S::BadCertificateUriInvalid), "it is urn:tidegate:P:g; what"),
        (status(Stage::Channel, S::BadCertificateTimeInvalid), "our certificate is not valid now"),
        (status(Stage::CreateSession, S::BadTooManySessions), "has no more sessions to give"),
        (status(Stage::Activate, S::BadUserAccessDenied), "refuses anonymous users"),
        (status(Stage::Endpoints, S::BadConnectionClosed), "when asked for its endpoints"),
        (Cause::Silent { stage: Stage::Endpoints, waited }, "though it answered before"),
        (status(Stage::CreateSession, S::BadInternalError), "says BadInternalError when a session"),
    ];
    let mut sentences: Vec<String> = Vec::new();
    for (cause, words) in causes {
        let sentence = case.says(&cause);
        assert!(sentence.contains(words), "{sentence}");
        assert!(!sentence.ends_with('.') && !sentence.contains('\n'), "{sentence}");
        assert!(sentence.len() < 450, "{} {sentence}", sentence.len());
        assert!(!sentences.contains(&sentence), "twice: {sentence}");
        assert!(sentence.contains(':') || sentence.contains(';'), "no remedy: {sentence}");
        sentences.push(sentence);
    }
}

#[test]
fn a_wrong_password_names_the_user_and_its_file_and_warns_of_lock_outs() {
    let case = Case { user: password(), ..Case::default() };
    for code in [S::BadIdentityTokenRejected, S::BadUserAccessDenied, S::BadIdentityTokenInvalid] {
        let said = case.says(&status(Stage::Activate, code));
        for words in ["\"line3\"", "/etc/tidegate/plc.pw", "lock an account"] {
            assert!(said.contains(words), "{said}");
        }
    }
}

#[test]
fn a_clock_that_is_far_off_is_blamed_for_what_it_causes() {
    let clock = Clock { apart: Duration::from_secs(7300), server_ahead: false };
    let case = Case { clock: Some(clock), ..Case::default() };
    let said = case.says(&status(Stage::Channel, S::BadCertificateTimeInvalid));
    assert!(said.contains("is 2 h behind ours"), "{said}");
    let near = Clock { apart: Duration::from_secs(30), server_ahead: true };
    let case = Case { clock: Some(near), ..Case::default() };
    let said = case.says(&status(Stage::Channel, S::BadSecurityChecksFailed));
    assert!(said.contains("export ours"), "{said}");
}

#[test]
fn what_to_do_about_an_unknown_server_depends_on_where_trust_is_kept() {
    let case = Case { config: None, ..Case::default() };
    let said = case.says(&unknown());
    assert!(said.contains("try again with --trust abab") && !said.contains("approve it"), "{said}");
    let expired = Distrust {
        kind: DistrustKind::Expired,
        text: "the certificate of plc ended on 2026-01-01: renew it there".into(),
        thumbprint: None,
    };
    assert_eq!(case.says(&Cause::Distrust(expired.clone())), expired.text);
}

#[test]
fn what_to_do_at_the_server_depends_on_where_our_certificate_comes_from() {
    let cause = status(Stage::Channel, S::BadCertificateUntrusted);
    for (whence, words) in [
        (Whence::Gateway, "identity opcua export"),
        (Whence::Folder("/tmp/x/cert.pem".into()), "put /tmp/x/cert.pem into the server's trusted"),
        (Whence::ThrowAway, "keep one with --identity DIR"),
    ] {
        let said = Case { whence, ..Case::default() }.says(&cause);
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_missing_policy_is_answered_with_what_there_is() {
    let offered = vec![
        (OfferedPolicy::Known(Policy::Basic256Sha256), OfferedMode::Sign),
        (OfferedPolicy::Withdrawn("Basic256"), OfferedMode::Sign),
        (OfferedPolicy::None, OfferedMode::None),
        (OfferedPolicy::None, OfferedMode::None),
    ];
    let said = Case::default().says(&Cause::NoEndpoint { offered });
    assert!(
        said.contains(
            "only Basic256Sha256 with Sign, Basic256 (broken, never used), None: take one of \
             these, such as --security basic256sha256 --message-mode sign"
        ),
        "{said}"
    );
    let nothing = Case::default().says(&Cause::NoEndpoint { offered: Vec::new() });
    assert!(nothing.contains("offers no endpoint at all"), "{nothing}");
}

#[test]
fn an_advertised_url_that_leads_nowhere_is_named_with_the_reason() {
    let url = EndpointUrl::parse("opc.tcp://PLC-7:4840").unwrap();
    let why = Cause::NoSuchName { host: "PLC-7".into(), said: "not known".into() };
    let said = Case::default().says(&Cause::Advertised { url, why: Box::new(why) });
    let words = "advertises opc.tcp://PLC-7:4840, which is to be followed, but the name PLC-7 has \
                 no address (not known); leave out advertised-url";
    assert!(said.contains(words), "{said}");
}

#[test]
fn without_security_no_certificate_is_blamed() {
    let case = Case { security: Security::None, ..Case::default() };
    let said = case.says(&status(Stage::Channel, S::BadConnectionClosed));
    assert!(!said.contains("certificate"), "{said}");
}
