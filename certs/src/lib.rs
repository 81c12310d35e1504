//! Key and certificate generations of a gateway, and how they are loaded.
