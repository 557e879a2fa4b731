//! The edge as a client meets it.
