//! A complete simulated hypervisor: reference backend and test partner
