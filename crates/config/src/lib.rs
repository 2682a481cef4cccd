//! The configuration as written (RawConfig) and as checked (a Plan that cannot be wrong).
