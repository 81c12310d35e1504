//! Hubs of more than one tier: sites between gateways and a region, and a tier above regions that
//! keeps mirrors of their streams.
//!
//! # Invariants
//! - All tiers have one JetStream domain, and a stream has the same name in each of them. A gateway
//!   accepts acknowledgements of its stream in its domain only, so a promoted mirror is found where
//!   the stream was, and no gateway has to be told.
//! - A site stores nothing. What counts as delivered is what the region acknowledged.
//! - A site vouches for its gateways: to the region it is one user with the rights of all of them
//!   and of nobody else.
//! - A mirror reads. It makes consumers in the region's stream, and what they deliver reaches
//!   subjects of mirrors alone: nats-server refuses a consumer that delivers to its own stream's
//!   subjects, and every answer takes the way of service imports.

mod mirror;
mod promote;
mod site;

pub use mirror::{MirrorUser, Region};
pub use promote::{PromoteError, Promoted, promote};
pub use site::{Site, SitePlan, generate_site};

pub(super) use mirror::{mirror_of, mirrors_account, regions_remotes, store_exports};
pub(super) use site::site_users;

#[cfg(test)]
mod tests;
