//! Scenarios that mount file systems or make networks of their own, which only root may do.
//! `cargo xtask test` leaves them out, and says so, when it is not root.

mod disk_full;
mod dns;
mod failing_fsync;
mod half_open;
mod memory;
mod power_cut;
mod read_only;
mod slow_disk;
mod thin_link;
