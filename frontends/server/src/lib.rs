//! The HTTP server under every dialect: listeners, TLS, limits, routing, drain, admin
