//! How far a value can be trusted, and why not further.

use serde::{Deserialize, Serialize};

/// The quality of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Quality {
    /// The device answered and vouched for the value.
    Good,
    /// The value may be stale or inexact.
    Uncertain(Reason),
    /// There is no trustworthy value.
    Bad(Reason),
}

/// Why a sample is not good. The numbers are part of record format version 1: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Reason {
    /// The source gave no reason, or one that this version does not know.
    Unspecified = 0,
    /// The device cannot be reached.
    NotConnected = 1,
    /// The device was reached and did not answer in time.
    Timeout = 2,
    /// The device answered with a refusal (a Modbus exception, a bad OPC UA status).
    Refused = 3,
    /// The answer broke the protocol and was thrown away.
    Malformed = 4,
    /// The value is older than twice its poll interval.
    Stale = 5,
    /// The value lies outside its configured or representable range.
    OutOfRange = 6,
    /// The value is not a number.
    NotANumber = 7,
    /// The configuration of this tag does not fit the device.
    Configuration = 8,
    /// The device reports that its own sensor has failed.
    SensorFailure = 9,
}

impl Reason {
    /// The number in the record format.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason with this number; a number of a later version reads as unspecified.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::NotConnected,
            2 => Self::Timeout,
            3 => Self::Refused,
            4 => Self::Malformed,
            5 => Self::Stale,
            6 => Self::OutOfRange,
            7 => Self::NotANumber,
            8 => Self::Configuration,
            9 => Self::SensorFailure,
            _ => Self::Unspecified,
        }
    }

    /// The word for people and JSON, such as `not-connected`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::NotConnected => "not-connected",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Malformed => "malformed",
            Self::Stale => "stale",
            Self::OutOfRange => "out-of-range",
            Self::NotANumber => "not-a-number",
            Self::Configuration => "configuration",
            Self::SensorFailure => "sensor-failure",
        }
    }
}

impl Quality {
    /// Whether the value can be used as it is.
    #[must_use]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Good)
    }

    /// `good`, `uncertain` or `bad`, as the live plane publishes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Uncertain(_) => "uncertain",
            Self::Bad(_) => "bad",
        }
    }

    /// Why it is not good; `None` for good.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Good => None,
            Self::Uncertain(reason) | Self::Bad(reason) => Some(reason),
        }
    }
}
