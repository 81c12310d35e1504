//! A crash-proof, append-only log of hash-chained frames.
//!
//! It knows frames and sequence numbers; it knows neither tags nor the network.

pub mod frame;
mod loss;

pub use frame::{
    ClockState, Codec, Epoch, Frame, FrameError, FrameHash, Header, Kind, MAX_FRAME_BYTES,
};
pub use loss::{Bridge, BridgeCause, EpochReason, LossRecord, Position, Predecessor, Unsequenced};
