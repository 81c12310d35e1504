//! Where answers may go.

use crate::names::GatewayId;
use crate::subjects;

/// Whether an answer may go there: an application's inbox, or a subject that a server made. A reply
/// subject is an application's word, and the daemon may publish more than applications.
pub(super) fn is_answerable(reply: &str, gateway: &GatewayId) -> bool {
    let of_an_inbox = reply.starts_with("_INBOX.") || reply.starts_with("_R_.");
    let below = |prefix: String| reply.strip_prefix(&prefix).is_some_and(|it| it.starts_with('.'));
    let is_own = below(subjects::inbox(gateway)) && !below(subjects::apps_inbox(gateway));
    of_an_inbox && !is_own && !reply.contains(['*', '>', ' '])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_inboxes_of_applications_alone() {
        let gateway: GatewayId = "P/g".parse().unwrap();
        for reply in ["_INBOX.x", "_INBOX.x.1", "_R_.a.b", "_INBOX.P.g.apps.1", "_INBOX.P.g2.x"] {
            assert!(is_answerable(reply, &gateway), "{reply}");
        }
        for reply in [
            "uns.P.press",
            "tide.P.g.0.frames",
            "$JS.API.STREAM.DELETE.TIDE",
            "_INBOX.P.g.live.1.2",
            "_INBOX.P.g.record.1",
            "_INBOX.>",
            "fleet.x",
            "",
        ] {
            assert!(!is_answerable(reply, &gateway), "{reply}");
        }
    }
}
