//! What became of the last renewal, as `state.json` keeps it. Nothing in it is secret.

use serde::{Deserialize, Serialize};

/// History that outlives a restart. Times are seconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct IdentityState {
    /// When a certificate was last asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<u64>,
    /// When one was last installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<u64>,
    /// Why the last attempt failed; nothing when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// How many attempts failed since the last success.
    pub failures: u32,
    /// The longest time without a hub that was ever seen, in seconds.
    pub longest_offline_s: u64,
    /// Since when there has been no hub, while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offline_since: Option<u64>,
    /// The serial number that the hub was seen to take last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed_serial: Option<String>,
}

impl IdentityState {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    pub(super) fn text(&self) -> String {
        // Numbers and texts: nothing that JSON could refuse.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}
