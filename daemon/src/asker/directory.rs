//! The hub's directory of owners as it is read: which gateways the hub admitted, and what is theirs.
//!
//! # Invariants
//! - Keys of later versions are passed over: a hub may be newer than whoever asks.

use serde::{Deserialize, Serialize};

use crate::names::{GatewayId, Share};

/// The gateways of a hub.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Directory {
    /// The version of the document.
    pub v: u8,
    /// The hub's name.
    pub hub: String,
    /// Who is admitted.
    pub gateways: Vec<Owner>,
    /// Whether prefixes were left out because there are too many: every gateway may then be meant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prefixes_left_out: bool,
}

/// A gateway, and what is its.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Owner {
    /// `PLANT/NAME`.
    pub id: String,
    /// Where its tags stand. Its own health is below `PLANT/_gateways/NAME` as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<String>,
    /// Whom it may ask, `PLANT/NAME` or `PLANT/*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<String>,
}

impl Owner {
    /// Which gateway, where the name is one.
    #[must_use]
    pub fn gateway(&self) -> Option<GatewayId> {
        self.id.parse().ok()
    }

    /// Whether it may ask the other one.
    #[must_use]
    pub fn may_ask(&self, other: &GatewayId) -> bool {
        self.asks.iter().filter_map(|text| text.parse::<Share>().ok()).any(|it| it.holds(other))
    }
}

impl Directory {
    /// Reads a document; keys of later versions are passed over.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_gateway_may_ask_is_a_name_or_a_plant() {
        let asks = vec!["Q/*".to_owned(), "R/a".to_owned()];
        let owner = Owner { id: "P/g".to_owned(), asks, ..Owner::default() };
        let may = |id: &str| owner.may_ask(&id.parse().unwrap());
        assert!(may("Q/any") && may("R/a") && !may("R/b") && !may("P/gw-00000"));
    }
}
