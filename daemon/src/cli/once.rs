//! Reading every tag once, for `check --connect`.
//!
//! # Invariants
//! - A tag's number is its place in its device; what is found below subtrees comes behind.
//! - A device that could not even be asked is not in the list, or says why.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{BoxFuture, join_all};
use tidegate_modbus::{Buses, ModbusDevice};
use tidegate_opcua::{FoundTag, Learned, OpcUaDevice, TagBook};
use tidegate_translator::{Clock, Device as _, Quality, Reading, TagId, TagPath, Value};

use super::{check, exit};
use crate::config::{Config, Device, Driver};
use crate::recorder::SystemClock;
use crate::run::modbus_tls::TlsFromFiles;
use crate::run::opcua;

/// What one device answered; `None` when it did not.
type Asked = Pin<Box<dyn Future<Output = Option<(String, Vec<Reading>)>>>>;

/// Reads every tag of every device once, the devices side by side as far as their links allow.
pub(super) fn read_once(config: &Config) -> check::Readings {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let buses = Buses::new(Arc::new(TlsFromFiles));
    let credentials = Arc::new(opcua::credentials(config, Arc::clone(&clock)));
    let ask = |device: &Device| -> Asked {
        let ids: Arc<[TagId]> = (0..).take(device.tags.len()).map(TagId).collect();
        let (name, clock) = (device.name().to_owned(), Arc::clone(&clock));
        match &device.driver {
            Driver::Modbus(spec) => {
                let modbus = ModbusDevice::new(Arc::clone(spec), ids, clock, &buses);
                Box::pin(async move { Some((name, modbus.ok()?.read_once().await)) })
            }
            // Nobody can be asked: applications publish when they like.
            Driver::Nats(_) => Box::pin(async move { Some((name, Vec::new())) }),
            Driver::OpcUa(spec) => {
                let book = Arc::new(Places::after(device.tags.len()));
                let credentials = Arc::clone(&credentials);
                let spec = Arc::clone(spec);
                Box::pin(async move {
                    let seen = Arc::clone(&book) as _;
                    let server =
                        OpcUaDevice::new(spec, Arc::clone(&ids), clock, seen, credentials as _);
                    let readings = match server.ask().await {
                        Ok(readings) => readings.into_iter().map(|it| book.named(it)).collect(),
                        Err((reason, why)) => {
                            let tags = ids.iter().copied().chain([check::WHOLE]);
                            tags.map(|tag| failed(tag, Quality::Bad(reason), &why)).collect()
                        }
                    };
                    Some((name, readings))
                })
            }
        }
    };
    let all = async { Ok(join_all(config.devices.iter().map(ask)).await) };
    exit::block_on(all).unwrap_or_default().into_iter().flatten().collect()
}

/// A book for one reading: what is found is numbered behind what is configured.
struct Places {
    first: usize,
    found: Mutex<Vec<TagPath>>,
}

impl Places {
    const fn after(configured: usize) -> Self {
        Self { first: configured, found: Mutex::new(Vec::new()) }
    }

    fn found(&self) -> MutexGuard<'_, Vec<TagPath>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reading; of a tag that was found, what went wrong with its path.
    fn named(&self, reading: Reading) -> Reading {
        let place = usize::try_from(reading.tag.0).unwrap_or(usize::MAX);
        let found = self.found();
        let path = place.checked_sub(self.first).and_then(|place| found.get(place));
        match (path, reading.error) {
            (Some(path), Some(error)) => {
                Reading { error: Some(format!("{path}: {error}")), ..reading }
            }
            (_, error) => Reading { error, ..reading },
        }
    }
}

fn failed(tag: TagId, quality: Quality, why: &str) -> Reading {
    Reading { tag, value: Value::None, quality, error: Some(why.to_owned()) }
}

impl TagBook for Places {
    fn define(&self, _: Arc<str>, found: Vec<FoundTag>) -> BoxFuture<'_, Vec<Option<TagId>>> {
        let places = self.first..self.first.saturating_add(found.len());
        *self.found() = found.into_iter().map(|tag| tag.path).collect();
        let ids = places.map(|place| u32::try_from(place).ok().map(TagId)).collect();
        Box::pin(std::future::ready(ids))
    }

    fn learn(&self, _: Arc<str>, _: Vec<Learned>) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
