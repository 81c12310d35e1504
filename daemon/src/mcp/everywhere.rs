//! The desk that asks the fleet, from a leaf or from a hub.
//!
//! # Invariants
//! - Each question has a connection of its own: an agent asks seldom, over days, and neither a leaf
//!   nor a hub that was restarted meanwhile matters.

use tidegate_query::Op;

use super::desk::{Answering, Desk, Gathered, Inquiry};
use crate::asker::{Asked, Asker, Order, Outcome, Place, ReachArgs, Wanted};
use crate::causes::chain;
use crate::cli::prove::{ProveArgs, look};
use crate::names::GatewayId;

/// What the audits of the gateways say.
const BY: &str = "agent";

/// Asks whoever owns the tags.
#[derive(Debug)]
pub(super) struct Everywhere {
    pub(super) reach: ReachArgs,
}

impl Everywhere {
    async fn connect(&self) -> Result<Asker, String> {
        Asker::connect(&self.reach).await.map_err(|error| chain(&error))
    }

    async fn gather(&self, inquiry: Inquiry) -> Result<Gathered, String> {
        let asker = self.connect().await?;
        let gateways = Vec::from_iter(inquiry.gateway);
        let wanted = Wanted { tags: inquiry.tags, gateways };
        let owners = asker.owners(&wanted).await.map_err(|error| chain(&error))?;
        if owners.asked.is_empty() && owners.left_out.is_empty() {
            let mut text = "no gateway has tags below these paths; look with find_tags".to_owned();
            owners.notes.iter().for_each(|note| text.extend(["; ", note]));
            return Err(text);
        }
        let order = match inquiry.op {
            Op::History if inquiry.wish.contains_key("every") => Order::From,
            Op::History => Order::Acquired,
            Op::Losses => Order::From,
            Op::Tags | Op::Latest | Op::Read => Order::Path,
            _ => Order::Owner,
        };
        let asked = Asked {
            op: inquiry.op,
            question: inquiry.wish,
            by: BY.to_owned(),
            within: Some(inquiry.within),
            whole: true,
        };
        let limit = u64::try_from(inquiry.limit).unwrap_or(u64::MAX);
        let mut merged = asker.ask(asked, &owners.asked).merged(order).at_most(limit);
        let mut gathered = Gathered::default();
        while let Some(row) = merged.next().await {
            let gateway = owners.asked.get(row.owner).map(ToString::to_string).unwrap_or_default();
            let value = serde_json::from_str(row.json.get())
                .map_err(|error| format!("{gateway} sent a row that is no JSON: {error}"))?;
            gathered.rows.push((gateway, value));
        }
        let report = merged.finish();
        let left_out = owners.left_out.iter();
        gathered.absent.extend(left_out.map(|(id, why)| (id.to_string(), why.words().to_owned())));
        for owner in report.owners {
            let complaint = owner.complaint();
            match (owner.outcome, complaint) {
                (Outcome::Refused(refusal), _) => {
                    gathered.refused.push((owner.gateway.to_string(), refusal));
                }
                (_, Some(why)) => gathered.absent.push((owner.gateway.to_string(), why)),
                (_, None) => {}
            }
        }
        gathered.summary = report.summary;
        gathered.summary.notes.extend(owners.notes);
        asker.finish().await;
        Ok(gathered)
    }

    async fn prove(&self, gateway: &str) -> Result<Option<serde_json::Value>, String> {
        let id: GatewayId = gateway
            .parse()
            .map_err(|error| format!("gateway {gateway:?} is not PLANT/NAME: {error}"))?;
        let asker = self.connect().await?;
        if matches!(asker.place(), Place::Leaf(_)) {
            return Ok(None);
        }
        let args = ProveArgs {
            access: self.reach.access(),
            gateway: id,
            from: None,
            to: None,
            journal: None,
            authority: None,
            json: true,
        };
        let report = look(&args).await.map_err(|failure| failure.to_string())?;
        serde_json::to_value(report).map(Some).map_err(|error| error.to_string())
    }
}

impl Desk for Everywhere {
    fn ask(&self, inquiry: Inquiry) -> Answering<'_, Gathered> {
        Box::pin(self.gather(inquiry))
    }

    fn judge(&self, gateway: String) -> Answering<'_, Option<serde_json::Value>> {
        Box::pin(async move { self.prove(&gateway).await })
    }
}
