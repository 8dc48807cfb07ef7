//! Frontend for the v1-compute dialect
