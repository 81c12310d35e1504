//! What is known of a server.

use std::time::Duration;

use super::cause::Cause;
use super::knock::Answered;
use super::offer::{Application, Offer};
use super::wording::Clock;
use crate::credentials::Distrust;

/// What is known of a server, complete up to what is being done.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// What is being done.
    pub doing: &'static str,
    /// Who answered.
    pub answered: Option<Answered>,
    /// What the server says of itself.
    pub application: Option<Application>,
    /// What it offers, the strongest first.
    pub offers: Vec<Offer>,
    /// Which offer was taken, or would be.
    pub chosen: Option<usize>,
    /// Each URL that it advertises, with what is known of the way there.
    pub advertised: Vec<(String, Reach)>,
    /// Whether we accept its certificate; `None` where it shows none or nobody was asked.
    pub trust: Option<Result<(), Distrust>>,
    /// Its clock against ours.
    pub clock: Option<Clock>,
    /// What a session told.
    pub session: Option<SessionFindings>,
}

/// Whether an advertised URL leads somewhere.
#[derive(Debug, Clone, PartialEq)]
pub enum Reach {
    /// It is the URL that was given.
    Same,
    /// Somebody takes connections there.
    Reachable,
    /// Nobody does, or nobody can be found.
    Unreachable(Cause),
    /// It is of another protocol, or no URL.
    Foreign,
}

/// What a session told.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SessionFindings {
    /// How long it took from the first byte to the log-on.
    pub logged_on_in: Duration,
    /// The state of the server, such as `Running`.
    pub state: Option<String>,
    /// When it started, RFC 3339.
    pub started: Option<String>,
    /// Manufacturer, product, version and build, as far as it says.
    pub build: Build,
    /// Its namespaces by index.
    pub namespaces: Vec<String>,
    /// What it takes in one request, by the specification's names; 0 stands for no limit.
    pub limits: Vec<(&'static str, u32)>,
    /// Whether a subscription brings values.
    pub subscription: Option<Result<Subscribed, String>>,
    /// Whether it keeps history, where it says so.
    pub history: Option<bool>,
    /// What could not be read.
    pub unread: Vec<String>,
}

/// What runs there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Build {
    /// Who made it.
    pub manufacturer: Option<String>,
    /// What it is called.
    pub product: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// Its build number.
    pub number: Option<String>,
}

/// A subscription that brought a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// The publishing interval that the server made of the one that was asked for.
    pub publish_every: Duration,
    /// The sampling interval, alike.
    pub sample_every: Duration,
    /// How long the first value took.
    pub first_after: Duration,
}
