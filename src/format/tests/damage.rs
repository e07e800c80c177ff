//! What survives damage.
