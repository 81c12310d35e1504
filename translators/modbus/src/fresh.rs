//! Where a device is asked to read now: each tag at the group that polls it.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use tidegate_translator::{FreshAnswer, FreshDesk, FreshFuture, ReadNow, TagId};
use tokio::time::Instant;

/// The desks of a device's groups, with the numbers of their tags.
pub(crate) struct Desks(pub(crate) Vec<(Arc<[TagId]>, FreshDesk)>);

impl ReadNow for Desks {
    fn read_now(&self, tags: HashSet<TagId>, deadline: Instant) -> FreshFuture<'_> {
        Box::pin(async move {
            let parts = self.0.iter().map(|(ids, desk)| {
                let own = ids.iter().copied().filter(|id| tags.contains(id)).collect();
                desk.ask(own, deadline)
            });
            let mut whole = FreshAnswer::default();
            for part in join_all(parts).await {
                whole.read.extend(part.read);
                whole.rest = whole.rest.or(part.rest);
            }
            whole
        })
    }
}
