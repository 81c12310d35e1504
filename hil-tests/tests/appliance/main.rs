//! The installed product: packages in a booted container (`container`), images in an emulated machine
//! (`machine`). Run by `cargo xtask appliance` and `cargo xtask long`, never by `cargo xtask test`.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

mod container;
mod machine;
