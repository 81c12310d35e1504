//! The way to the hub beyond its URLs, and what local applications may do: what the keys of `[hub]`
//! and `[leaf]` have to do with each other.

use super::fields::{Checker, Fields};
use super::mistake::{Mistake, Place};
use super::model::{HubScheme, HubUrl, LocalApps, LocalJetStream, Proxy, ProxyUser};

/// What local streams may hold when nothing is written: an hour of a busy line, and little beside
/// the journal's 8 GiB.
const JETSTREAM_BYTES: u64 = 256 << 20;

impl Checker<'_> {
    /// nats-server takes WebSockets for all URLs of a remote or for none.
    pub(super) fn one_kind_of_url(&mut self, urls: &[(HubUrl, Place)]) {
        let websocket = |url: &HubUrl| url.scheme == HubScheme::WebSocket;
        let Some((first, first_place)) = urls.first() else { return };
        let other = urls.iter().position(|(url, _)| websocket(url) != websocket(first));
        if let Some(index) = other
            && let Some((url, place)) = urls.get(index)
        {
            let message = "WebSockets and other URLs do not go together";
            let mistake = Mistake::new(format!("hub.urls[{index}]"), place.clone(), message);
            let legal = "wss:// for all of the URLs, or for none";
            self.mistakes.push(
                mistake
                    .value(url.to_string())
                    .legal(legal)
                    .other(first_place.clone(), "the first of them"),
            );
        }
    }

    /// The proxy, where there is one.
    pub(super) fn proxy(&mut self, fields: &Fields, urls: &[(HubUrl, Place)]) -> Option<Proxy> {
        let (name, file) = (fields.text("proxy-user"), self.file_of(fields, "proxy-password-file"));
        for (there, missing) in
            [("proxy-user", "proxy-password-file"), ("proxy-password-file", "proxy-user")]
        {
            if !fields.written(there) {
                continue;
            }
            if !fields.attempted("proxy") {
                let message = "there is no proxy".to_owned();
                self.refuse(fields, there, message, "nothing, or proxy = \"http://host:port\"");
            } else if !fields.attempted(missing) {
                let message = format!("there is a {there} and no {missing}");
                self.refuse(fields, there, message, "both of them, or neither");
            }
        }
        if name.is_some_and(|name| name.contains(':')) {
            let message = "the name holds a colon, which ends a name".to_owned();
            self.refuse(fields, "proxy-user", message, "a name without ':'");
        }
        let (host, port) = fields.proxy("proxy")?;
        if let Some((url, _)) = urls.iter().find(|(url, _)| url.scheme != HubScheme::WebSocket) {
            let message = format!("{url} does not go through a proxy");
            let wss = HubUrl { scheme: HubScheme::WebSocket, port: 443, ..url.clone() };
            let legal = format!("urls of WebSockets beside it, such as \"{wss}\", or no proxy");
            self.refuse(fields, "proxy", message, &legal);
        }
        let user = name
            .zip(file)
            .map(|(name, file)| ProxyUser { name: name.to_owned(), password_file: file });
        Some(Proxy { host: host.to_owned(), port, user })
    }

    /// There must be something to go back to.
    pub(super) fn fail_back(&mut self, fields: &Fields, urls: usize) {
        if fields.written("fail-back-after-ms") && urls == 1 {
            let message = "there is one URL, and nothing to go back to".to_owned();
            self.refuse(fields, "fail-back-after-ms", message, "nothing, or several urls");
        }
    }

    /// What local applications may do.
    pub(super) fn local_apps(&mut self, fields: &Fields) -> LocalApps {
        let domain = fields.text("jetstream-domain").map(str::to_owned);
        if fields.written("jetstream-max-bytes") && !fields.attempted("jetstream-domain") {
            let message = "there is no JetStream on the gateway".to_owned();
            let legal = "nothing, or jetstream-domain = \"line3\" beside it";
            self.refuse(fields, "jetstream-max-bytes", message, legal);
        }
        let max_bytes = fields.size("jetstream-max-bytes").unwrap_or(JETSTREAM_BYTES);
        LocalApps {
            publish: fields.subjects("local-publish").to_vec(),
            subscribe: fields.subjects("local-subscribe").to_vec(),
            jetstream: domain.map(|domain| LocalJetStream { domain, max_bytes }),
        }
    }

    /// Two JetStreams of one domain would answer each other's questions.
    pub(super) fn domains_that_meet(&mut self, hub: &str, leaf: &Fields) {
        if leaf.written("jetstream-domain") && leaf.text("jetstream-domain") == Some(hub) {
            let message = format!("{hub:?} is the hub's JetStream domain");
            self.refuse(leaf, "jetstream-domain", message, "another name, such as \"line3\"");
        }
    }
}
