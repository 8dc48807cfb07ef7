//! Frontend for the zstack dialect
