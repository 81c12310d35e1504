//! The names of plants and gateways, the identity made of both, and who may be meant by one text.
//!
//! # Invariants
//! - A name is one NATS subject token, one certificate common-name part and one path segment
//!   without any escaping, so it reads the same everywhere.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name, in bytes; the common name of a certificate holds 64 characters and carries
/// `plant/gateway`.
pub const MAX_BYTES: usize = 31;

/// A checked plant or gateway name: 1–31 of `A–Z a–z 0–9 - _`, beginning with a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Box<str>);

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "name {name:?} is not 1 to {MAX_BYTES} letters, digits, '-' or '_' beginning with a letter or digit"
)]
pub struct NameError {
    name: String,
}

impl Name {
    /// Checks a text.
    ///
    /// # Errors
    /// When it is empty, too long, or holds anything but the legal characters.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let starts_well = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if !starts_well || name.len() > MAX_BYTES || !name.bytes().all(legal) {
            return Err(NameError { name });
        }
        Ok(Self(name.into_boxed_str()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.into_string()
    }
}

/// Which gateway: its plant and its name, written `PLANT/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GatewayId {
    /// The plant.
    pub plant: Name,
    /// The gateway, unique in the fleet.
    pub name: Name,
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.plant, self.name)
    }
}

/// Why a text is no gateway identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayIdError {
    /// There is no slash in it.
    #[error("gateway {text:?} is not written PLANT/NAME")]
    Shape {
        /// The text that was given.
        text: String,
    },
    /// One of the two is no name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl std::str::FromStr for GatewayId {
    type Err = GatewayIdError;
    fn from_str(text: &str) -> Result<Self, GatewayIdError> {
        let (plant, name) =
            text.split_once('/').ok_or_else(|| GatewayIdError::Shape { text: text.to_owned() })?;
        Ok(Self { plant: Name::new(plant)?, name: Name::new(name)? })
    }
}

/// Whose answers a gateway may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    /// Those of one gateway, `PLANT/NAME`.
    Gateway(GatewayId),
    /// Those of every gateway in a plant, `PLANT/*`.
    Plant(Name),
}

impl Share {
    /// Whether it is about a gateway.
    #[must_use]
    pub fn holds(&self, id: &GatewayId) -> bool {
        match self {
            Self::Gateway(one) => one == id,
            Self::Plant(plant) => *plant == id.plant,
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(id) => write!(f, "{id}"),
            Self::Plant(plant) => write!(f, "{plant}/*"),
        }
    }
}

impl std::str::FromStr for Share {
    type Err = GatewayIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_suffix("/*") {
            Some(plant) => Ok(Self::Plant(Name::new(plant)?)),
            None => Ok(Self::Gateway(text.parse()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_subject_token() {
        for good in ["PlantA", "gw-line3", "7", "a_b"] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a.b", "a b", "a*", "ü", "a/b", &"x".repeat(32)] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_identity_without_a_slash_says_how_to_write_it() {
        let error = "PlantA".parse::<GatewayId>().unwrap_err().to_string();
        assert!(error.contains("PLANT/NAME"), "{error}");
    }
}
