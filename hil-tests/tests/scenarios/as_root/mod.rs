//! Scenarios that mount file systems or make networks of their own, which only root may do.
//! `cargo xtask test` leaves them out, and says so, when it is not root.

mod dns;
mod half_open;
mod thin_link;
