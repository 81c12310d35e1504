//! Scripted servers, and servers that want to break the gateway.

mod hostile;
mod script;
