//! The exactly-once delivery state machine. Pure: no I/O, no clock of its own.
