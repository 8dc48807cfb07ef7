//! Frontend for the kvm-task-feed dialect
