//! Pseudo-terminals from both ends.
