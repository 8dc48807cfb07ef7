//! A real Redis server of the test's own.
