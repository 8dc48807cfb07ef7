//! The binary `babelvisor`.
fn main() {}
