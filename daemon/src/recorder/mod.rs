//! From samples to durable frames.
//!
//! # Invariants
//! - One thread owns the journal; everybody else asks it through a [`Handle`] or reads durable
//!   frames through a `Reader`.
//! - Samples stand behind the catalog entries that they use, in one chain.
//! - A journal that cannot be written stops nothing else: what it could not take is counted, told
//!   in a loss record as soon as one can be written, and the journal is opened again. That holds
//!   for one that cannot even be opened at the start, too.

mod catalog_store;
mod clock;
mod handle;
mod ingress;
mod losses;
mod owners;
mod pace;
mod receipt;
mod stamp;
mod waiting;
mod writer;

pub use catalog_store::{CatalogStore, SharedCatalog, StoreError};
pub use handle::{Handle, RecorderGone};
pub(crate) use ingress::random_id;
pub use ingress::{Ingress, Losses, MAX_QUEUED_SAMPLES, NoRoom, Queue};
pub use losses::of_gateway;
pub use receipt::{Batch, Place, Receipt};
pub use stamp::{SystemClock, boot_time};
pub use waiting::{Opened, Recorder};
pub use writer::StartError;
