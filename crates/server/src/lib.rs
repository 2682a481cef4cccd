//! The control plane over HTTP: metrics, health, readiness.
