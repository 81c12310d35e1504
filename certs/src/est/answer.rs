//! What an answer's status means.
//!
//! # Invariants
//! - Nothing is followed elsewhere: a redirection is a refusal.
//! - What a server says is cut, freed from control characters, and never holds the token, even when
//!   the server sends it back.

use std::time::Duration;

use hyper::StatusCode;

use super::exchange::Reply;
use crate::authority::AuthorityError;

/// When an authority does not say when to ask again.
const ASK_AGAIN: Duration = Duration::from_secs(600);
/// Below, an authority would be asked without pause; beyond, a slip of a digit would mean never.
const ASK_AGAIN_BOUNDS: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(86_400));

/// Characters of what a server says.
const MAX_WORDS: usize = 200;

/// The body of an answer that says yes.
pub(super) fn body(
    reply: Reply,
    authority: &str,
    secrets: &[&str],
) -> Result<Vec<u8>, AuthorityError> {
    let authority = authority.to_owned();
    let status = reply.status;
    if status == StatusCode::OK {
        return Ok(reply.body);
    }
    if status == StatusCode::ACCEPTED {
        let (least, most) = ASK_AGAIN_BOUNDS;
        let after = reply.retry_after.unwrap_or(ASK_AGAIN).clamp(least, most);
        return Err(AuthorityError::Later { authority, after });
    }
    let said = words(&reply.body, secrets);
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        let why = format!("it says {} ({said})", status.as_u16());
        return Err(AuthorityError::Unreachable { authority, why });
    }
    if status.is_redirection() {
        let said = "it sends us elsewhere, which is not followed".to_owned();
        return Err(AuthorityError::Refused { authority, status: status.as_u16(), said });
    }
    if status.is_client_error() {
        let said = match reply.schemes.as_slice() {
            [] => said,
            schemes => format!("{said}; it wants {}", clean(&schemes.join(" or "))),
        };
        return Err(AuthorityError::Refused { authority, status: status.as_u16(), said });
    }
    let why = format!("status {}, which is no answer to the request", status.as_u16());
    Err(AuthorityError::Unusable { authority, why })
}

/// A server's words for a log line.
fn words(body: &[u8], secrets: &[&str]) -> String {
    let text = String::from_utf8_lossy(body.get(..8 * MAX_WORDS).unwrap_or(body)).into_owned();
    let text = secrets
        .iter()
        .filter(|secret| !secret.is_empty())
        .fold(text, |text, secret| text.replace(secret, "(token)"));
    let text = clean(&text);
    if text.is_empty() { "no reason given".to_owned() } else { text }
}

fn clean(text: &str) -> String {
    let words: Vec<_> = text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, said: &str) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            schemes: Vec::new(),
            body: said.as_bytes().to_vec(),
            shown: Vec::new(),
        }
    }

    fn error(reply: Reply) -> AuthorityError {
        body(reply, "https://ca", &["canary"]).unwrap_err()
    }

    #[test]
    fn each_status_is_one_of_four_things() {
        assert_eq!(body(reply(200, "x"), "https://ca", &[]).unwrap(), b"x");
        for status in [301, 302, 307, 308, 400, 401, 403, 404] {
            let error = error(reply(status, "no"));
            assert!(matches!(error, AuthorityError::Refused { status: s, .. } if s == status));
        }
        for status in [429, 500, 502, 503] {
            assert!(matches!(error(reply(status, "no")), AuthorityError::Unreachable { .. }));
        }
        for status in [201, 204, 206] {
            assert!(matches!(error(reply(status, "no")), AuthorityError::Unusable { .. }));
        }
    }

    #[test]
    fn a_wait_is_neither_nothing_nor_for_ever() {
        for (said, waits) in [(None, 600), (Some(0), 1), (Some(30), 30), (Some(u64::MAX), 86_400)] {
            let reply = Reply { retry_after: said.map(Duration::from_secs), ..reply(202, "") };
            let AuthorityError::Later { after, .. } = error(reply) else { panic!("no wait") };
            assert_eq!(after, Duration::from_secs(waits));
        }
    }

    #[test]
    fn what_a_server_says_is_cut_cleaned_and_never_the_token() {
        let text = error(reply(403, "no\r\n\u{1b}[31m canary\t is spent")).to_string();
        assert!(text.contains("no [31m (token) is spent"), "{text}");
        let text = error(reply(403, &"ä".repeat(10_000))).to_string();
        assert!(text.chars().count() < 300, "{text}");
        assert!(error(reply(403, " \n")).to_string().contains("no reason given"));
        let reply = Reply { schemes: vec!["digest".to_owned()], ..reply(401, "") };
        assert!(error(reply).to_string().contains("wants digest"));
    }
}
