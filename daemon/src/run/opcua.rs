//! The OPC UA translator with what the daemon gives it.

use std::sync::Arc;

use tidegate_translator::{CancellationToken, Clock, Device, DeviceFuture, ReadingFuture, Sink};

use super::devices::MakeOpcUa;

/// Makes the translator of each device.
pub(super) fn maker(clock: Arc<dyn Clock>) -> MakeOpcUa {
    Arc::new(move |spec, _ids, _book| {
        let _ = &clock;
        Box::new(NotYet(spec.name.as_str().into()))
    })
}

struct NotYet(Arc<str>);

impl Device for NotYet {
    fn name(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
    fn run(self: Box<Self>, _: Arc<dyn Sink>, stop: CancellationToken) -> DeviceFuture {
        Box::pin(async move { stop.cancelled().await })
    }
    fn read_once(&self) -> ReadingFuture {
        Box::pin(std::future::ready(Vec::new()))
    }
}
