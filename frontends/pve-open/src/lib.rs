//! Frontend for the pve-open dialect
