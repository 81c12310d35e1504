//! What a status code says of a value, and how it is told to people.
//!
//! # Invariants
//! - Every one of the 2^32 codes has a quality: severity 00 is good, 01 uncertain, 10 bad and the
//!   reserved 11 bad as well (Part 4, 7.39.1). A code that this version does not know keeps its
//!   severity, without a reason.
//! - The lower 16 bits (limits, overflow, semantics changed) never change a quality.
//! - No status is good: the encoding leaves the code out when it is (Part 6, 5.2.2.17).

use std::fmt;

use opcua::types::{StatusCode, SubStatusCode};
use tidegate_translator::{Quality, Reason};

/// The upper 16 bits: severity and sub code.
const CODE: u32 = 0xffff_0000;

/// Why a value with one of these codes is not good; with any other code nobody says why.
///
/// | reason | what it gathers |
/// |---|---|
/// | `not-connected` | the server, or what stands behind it, cannot be reached, or not yet |
/// | `timeout` | it was reached and did not answer in time |
/// | `refused` | it will not give this to us, or not more of it |
/// | `malformed` | one of both sides could not read the other |
/// | `stale` | whatever updates the value has stopped |
/// | `out-of-range` | the value lies where none is legal |
/// | `configuration` | a person has to change an address, a filter or the server |
/// | `sensor-failure` | the source says that it is broken |
#[rustfmt::skip]
const REASONS: &[(StatusCode, Reason)] = &[
    (StatusCode::BadNotConnected, Reason::NotConnected),
    (StatusCode::BadNoCommunication, Reason::NotConnected),
    (StatusCode::BadWaitingForInitialData, Reason::NotConnected),
    (StatusCode::BadServerNotConnected, Reason::NotConnected),
    (StatusCode::BadCommunicationError, Reason::NotConnected),
    (StatusCode::BadConnectionRejected, Reason::NotConnected),
    (StatusCode::BadConnectionClosed, Reason::NotConnected),
    (StatusCode::BadDisconnect, Reason::NotConnected),
    (StatusCode::BadRequestInterrupted, Reason::NotConnected),
    (StatusCode::BadSecureChannelClosed, Reason::NotConnected),
    (StatusCode::BadSecureChannelIdInvalid, Reason::NotConnected),
    (StatusCode::BadSessionClosed, Reason::NotConnected),
    (StatusCode::BadSessionIdInvalid, Reason::NotConnected),
    (StatusCode::BadServerHalted, Reason::NotConnected),
    (StatusCode::BadShutdown, Reason::NotConnected),
    (StatusCode::UncertainNoCommunicationLastUsableValue, Reason::NotConnected),
    (StatusCode::BadTimeout, Reason::Timeout),
    (StatusCode::BadRequestTimeout, Reason::Timeout),
    (StatusCode::BadUserAccessDenied, Reason::Refused),
    (StatusCode::BadNotReadable, Reason::Refused),
    (StatusCode::BadIdentityTokenInvalid, Reason::Refused),
    (StatusCode::BadIdentityTokenRejected, Reason::Refused),
    (StatusCode::BadSecurityModeInsufficient, Reason::Refused),
    (StatusCode::BadServiceUnsupported, Reason::Refused),
    (StatusCode::BadNotSupported, Reason::Refused),
    (StatusCode::BadNotImplemented, Reason::Refused),
    (StatusCode::BadRequestNotAllowed, Reason::Refused),
    (StatusCode::BadLocked, Reason::Refused),
    (StatusCode::BadTooManyOperations, Reason::Refused),
    (StatusCode::BadTooManyMonitoredItems, Reason::Refused),
    (StatusCode::BadTooManySubscriptions, Reason::Refused),
    (StatusCode::BadServerTooBusy, Reason::Refused),
    (StatusCode::BadResourceUnavailable, Reason::Refused),
    (StatusCode::BadLicenseExpired, Reason::Refused),
    (StatusCode::BadLicenseLimitsExceeded, Reason::Refused),
    (StatusCode::BadLicenseNotAvailable, Reason::Refused),
    (StatusCode::BadDecodingError, Reason::Malformed),
    (StatusCode::BadEncodingError, Reason::Malformed),
    (StatusCode::BadEncodingLimitsExceeded, Reason::Malformed),
    (StatusCode::BadUnknownResponse, Reason::Malformed),
    (StatusCode::UncertainLastUsableValue, Reason::Stale),
    (StatusCode::BadOutOfRange, Reason::OutOfRange),
    (StatusCode::BadNumericOverflow, Reason::OutOfRange),
    (StatusCode::BadEdited_OutOfRange, Reason::OutOfRange),
    (StatusCode::BadInitialValue_OutOfRange, Reason::OutOfRange),
    (StatusCode::BadOutOfRange_DominantValueChanged, Reason::OutOfRange),
    (StatusCode::BadEdited_OutOfRange_DominantValueChanged, Reason::OutOfRange),
    (StatusCode::BadOutOfRange_DominantValueChanged_DependentValueChanged, Reason::OutOfRange),
    (StatusCode::BadEdited_OutOfRange_DominantValueChanged_DependentValueChanged, Reason::OutOfRange),
    (StatusCode::UncertainEngineeringUnitsExceeded, Reason::OutOfRange),
    (StatusCode::UncertainSensorNotAccurate, Reason::OutOfRange),
    (StatusCode::BadNodeIdUnknown, Reason::Configuration),
    (StatusCode::BadNodeIdInvalid, Reason::Configuration),
    (StatusCode::BadAttributeIdInvalid, Reason::Configuration),
    (StatusCode::BadIndexRangeInvalid, Reason::Configuration),
    (StatusCode::BadIndexRangeNoData, Reason::Configuration),
    (StatusCode::BadDataEncodingInvalid, Reason::Configuration),
    (StatusCode::BadDataEncodingUnsupported, Reason::Configuration),
    (StatusCode::BadDataTypeIdUnknown, Reason::Configuration),
    (StatusCode::BadTypeMismatch, Reason::Configuration),
    (StatusCode::BadObjectDeleted, Reason::Configuration),
    (StatusCode::BadNotFound, Reason::Configuration),
    (StatusCode::BadNoMatch, Reason::Configuration),
    (StatusCode::BadTooManyMatches, Reason::Configuration),
    (StatusCode::BadBrowseNameInvalid, Reason::Configuration),
    (StatusCode::BadNodeNotInView, Reason::Configuration),
    (StatusCode::BadFilterNotAllowed, Reason::Configuration),
    (StatusCode::BadDeadbandFilterInvalid, Reason::Configuration),
    (StatusCode::BadMonitoredItemFilterInvalid, Reason::Configuration),
    (StatusCode::BadMonitoredItemFilterUnsupported, Reason::Configuration),
    (StatusCode::BadConfigurationError, Reason::Configuration),
    (StatusCode::UncertainConfigurationError, Reason::Configuration),
    (StatusCode::BadDeviceFailure, Reason::SensorFailure),
    (StatusCode::BadSensorFailure, Reason::SensorFailure),
    (StatusCode::UncertainSensorCalibration, Reason::SensorFailure),
];

/// A status code: what it says of a value, and its name and number for a person, such as
/// `BadNodeIdUnknown (0x80340000)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    /// How far a value with this status can be trusted.
    #[must_use]
    #[inline]
    pub fn quality(self) -> Quality {
        match self.0 >> 30 {
            0 => Quality::Good,
            1 => Quality::Uncertain(self.reason()),
            _ => Quality::Bad(self.reason()),
        }
    }

    /// Why it is not good; unspecified for a good one as well.
    #[must_use]
    pub fn reason(self) -> Reason {
        let code = self.0 & CODE;
        let known = REASONS.iter().find(|(listed, _)| listed.bits() == code);
        known.map_or(Reason::Unspecified, |(_, reason)| *reason)
    }

    /// Its name in the specification, such as `BadNodeIdUnknown`; `None` for a code that is not
    /// in it.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.known().map(|known| known.name())
    }

    /// What the specification says of it, in lower case and without a full stop.
    #[must_use]
    pub fn meaning(self) -> Option<String> {
        let text = self.known()?.description().trim_end_matches('.');
        let mut letters = text.chars();
        // An abbreviation at the beginning stays as it is.
        let second_is_small = letters.clone().nth(1).is_none_or(|c| !c.is_uppercase());
        let first = letters.next().filter(|_| second_is_small)?;
        Some(first.to_lowercase().chain(letters).collect())
    }

    fn known(self) -> Option<SubStatusCode> {
        SubStatusCode::from_value(self.0 & CODE)
    }
}

impl From<StatusCode> for Status {
    fn from(status: StatusCode) -> Self {
        Self(status.bits())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} (0x{:08x})", self.0),
            None => write!(f, "status 0x{:08x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_is_as_good_as_its_severity_says() {
        for (status, quality_of_it) in [
            (0, Quality::Good),
            (StatusCode::GoodClamped.bits(), Quality::Good),
            (StatusCode::GoodLocalOverride.bits(), Quality::Good),
            (0x4000_0000, Quality::Uncertain(Reason::Unspecified)),
            (StatusCode::UncertainLastUsableValue.bits(), Quality::Uncertain(Reason::Stale)),
            (0x8000_0000, Quality::Bad(Reason::Unspecified)),
            (StatusCode::BadNodeIdUnknown.bits(), Quality::Bad(Reason::Configuration)),
            (StatusCode::BadSensorFailure.bits(), Quality::Bad(Reason::SensorFailure)),
            (StatusCode::BadUserAccessDenied.bits(), Quality::Bad(Reason::Refused)),
            (0xc000_0000, Quality::Bad(Reason::Unspecified)),
            (u32::MAX, Quality::Bad(Reason::Unspecified)),
        ] {
            assert_eq!(Status(status).quality(), quality_of_it, "{status:#x}");
        }
    }

    #[test]
    fn no_code_is_listed_twice_and_none_that_is_good() {
        for (place, (status, _)) in REASONS.iter().enumerate() {
            assert!(!status.is_good(), "{status}");
            let again = REASONS.iter().skip(place + 1).find(|(other, _)| other == status);
            assert_eq!(again, None);
        }
    }

    #[test]
    fn a_status_is_told_by_name_number_and_meaning() {
        let unknown = Status(0x8034_0000);
        assert_eq!(unknown.to_string(), "BadNodeIdUnknown (0x80340000)");
        assert_eq!(
            unknown.meaning().as_deref(),
            Some("the node id refers to a node that does not exist in the server address space")
        );
        assert_eq!(Status(0x8034_0480).to_string(), "BadNodeIdUnknown (0x80340480)");
        assert_eq!(Status(0).to_string(), "Good (0x00000000)");
        assert_eq!(Status(0x8abc_0000).to_string(), "status 0x8abc0000");
        assert_eq!(Status(0x8abc_0000).meaning(), None);
        assert_eq!(Status(u32::MAX).to_string(), "status 0xffffffff");
    }

    proptest! {
        #[test]
        fn every_code_has_the_quality_of_its_severity_and_a_text(status: u32) {
            let quality = Status(status).quality();
            let plain = Status(status & CODE).quality();
            prop_assert_eq!(quality, plain, "the lower bits say nothing of it");
            let word = ["good", "uncertain", "bad", "bad"][usize::try_from(status >> 30).unwrap()];
            prop_assert_eq!(quality.word(), word);
            let number = format!("{status:08x}");
            prop_assert!(Status(status).to_string().contains(&number));
            let _ = Status(status).meaning();
        }
    }
}
