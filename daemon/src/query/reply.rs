//! Where answers may go.
//!
//! # Invariants
//! - Whoever asks chooses where the answer goes, and the daemon may publish more than they: so only
//!   to an inbox, or to a subject that the server itself made up (`_R_.`).
//! - None of the daemon's own inboxes is an asker's.

use crate::names::GatewayId;
use crate::subjects;

/// The longest subject of a reply, in bytes. Inboxes have some 60; the server's own some 40.
const MAX_REPLY: usize = 512;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// From an application beside the gateway.
    Local,
    /// Through the hub, or from another account of the own server.
    Relayed,
}

impl Via {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Relayed => "relayed",
        }
    }
}

/// Whether answers may go to `reply`, and what that says of the asker. `None` is "no".
pub(super) fn judge(gateway: &GatewayId, reply: &str) -> Option<Via> {
    if reply.len() > MAX_REPLY || reply.split('.').any(|token| !is_token(token)) {
        return None;
    }
    if reply.starts_with("_R_.") {
        return Some(Via::Relayed);
    }
    if !reply.starts_with("_INBOX.") {
        return None;
    }
    let below = |subject: &str| {
        reply.strip_prefix(subject).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let is_ours = below(&subjects::inbox(gateway));
    (!is_ours || below(&subjects::apps_inbox(gateway))).then_some(Via::Local)
}

fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && b != b'*' && b != b'>')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_inboxes_and_to_subjects_of_the_servers_making_alone() {
        let gateway: GatewayId = "P/g".parse().unwrap();
        let judge = |reply: &str| judge(&gateway, reply);
        for reply in ["_INBOX.abc", "_INBOX.abc.1", "_INBOX.P.g.apps.x.1", "_INBOX.P.g2.x"] {
            assert_eq!(judge(reply), Some(Via::Local), "{reply}");
        }
        assert_eq!(judge("_R_.x1.y2"), Some(Via::Relayed));
        let long = format!("_INBOX.{}", "x".repeat(600));
        for reply in [
            "",
            "_INBOX",
            "_INBOX.",
            "_INBOXES.a",
            "_R_",
            "tide.P.g2.00.frames",
            "uns.P.a",
            "$JS.API.STREAM.DELETE.TIDE",
            "tide.P.g.q.history",
            "_INBOX.P.g",
            "_INBOX.P.g.live.1.2",
            "_INBOX.P.g.record.1.2",
            "_INBOX.P.g.appsy.1",
            "_INBOX.>",
            "_INBOX.*.a",
            "_INBOX.a..b",
            "_INBOX.a b",
            "_INBOX.a\r\nPUB x 0",
            &long,
        ] {
            assert_eq!(judge(reply), None, "{reply:?}");
        }
    }
}
