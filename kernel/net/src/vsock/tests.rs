//! Streams against a host that the tests play.
