//! What stands inside frames: columns of samples, the catalog, clock events; and the proof over
//! a sequence of frames.
