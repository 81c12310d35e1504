//! The tag book of one run of a driver.
//!
//! # Invariants
//! - It is of the configuration that the driver was made of: once that is another one, what the
//!   driver finds has no numbers.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tidegate_opcua::{FoundTag, Learned, TagBook};
use tidegate_translator::TagId;

use super::roster::Roster;
use crate::config::Driver;

/// Gives the tags of one device their numbers.
pub(super) struct DeviceBook {
    roster: Arc<Roster>,
    driver: Driver,
}

impl DeviceBook {
    pub(super) const fn new(roster: Arc<Roster>, driver: Driver) -> Self {
        Self { roster, driver }
    }
}

impl TagBook for DeviceBook {
    fn define(&self, device: Arc<str>, found: Vec<FoundTag>) -> BoxFuture<'_, Vec<Option<TagId>>> {
        Box::pin(async move { self.roster.define(&device, &self.driver, found).await })
    }

    fn learn(&self, device: Arc<str>, learned: Vec<Learned>) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.roster.learn(&device, &self.driver, learned).await })
    }
}
