//! virtio transports and queues behind a safe face; built on `virtio-drivers`.
