//! Unix sockets against each other.
