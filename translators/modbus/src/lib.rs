//! Modbus translator: a pure planner and decoder under a guarded link.

mod spec;

pub use spec::{Address, DataType, DeviceSpec, Order, Table, TagSpec, UnitId};
