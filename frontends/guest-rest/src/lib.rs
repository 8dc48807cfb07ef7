//! Frontend for the guest-rest dialect
