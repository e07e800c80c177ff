//! Simulated kubelet and API server.
