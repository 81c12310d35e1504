//! Reading every tag once, for `check --connect`.
//!
//! # Invariants
//! - A tag's number is its place in its device; what is found below subtrees comes behind.
//! - A device that did not answer is not in the list.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, join_all};
use tidegate_modbus::{Buses, ModbusDevice};
use tidegate_opcua::{FoundTag, Learned, OpcUaDevice, TagBook};
use tidegate_translator::{Clock, Device as _, Reading, TagId};

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
        let ids: Vec<_> = (0..).take(device.tags.len()).map(TagId).collect();
        let (name, clock) = (device.name().to_owned(), Arc::clone(&clock));
        match &device.driver {
            Driver::Modbus(spec) => {
                let modbus = ModbusDevice::new(Arc::clone(spec), ids, clock, &buses);
                Box::pin(async move { Some((name, modbus.ok()?.read_once().await)) })
            }
            Driver::OpcUa(spec) => {
                let book = Arc::new(Places::after(device.tags.len()));
                let credentials = Arc::clone(&credentials);
                let spec = Arc::clone(spec);
                let has_subtrees = !device.subtrees.is_empty();
                Box::pin(async move {
                    let seen = Arc::clone(&book) as _;
                    let server = OpcUaDevice::new(spec, ids.into(), clock, seen, credentials as _);
                    let readings = server.read_once().await;
                    // One of subtrees alone has no tag that could tell.
                    let answered = !has_subtrees || book.was_asked();
                    (answered || !readings.is_empty()).then_some((name, readings))
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
    asked: Mutex<bool>,
}

impl Places {
    const fn after(configured: usize) -> Self {
        Self { first: configured, asked: Mutex::new(false) }
    }

    fn was_asked(&self) -> bool {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TagBook for Places {
    fn define(&self, _: Arc<str>, found: Vec<FoundTag>) -> BoxFuture<'_, Vec<Option<TagId>>> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let places = self.first..self.first.saturating_add(found.len());
        let ids = places.map(|place| u32::try_from(place).ok().map(TagId)).collect();
        Box::pin(std::future::ready(ids))
    }

    fn learn(&self, _: Arc<str>, _: Vec<Learned>) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
