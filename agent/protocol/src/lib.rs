//! agent/protocol.
