//! Devices that are saved in the middle of their work, and states that are none of theirs.

use std::io::{Read, Seek, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags};
use vsock_packet::{HEADER_LEN, Header, Op, STREAM};
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::console::{Console, ConsoleLog};
use crate::fs::Fs;
use crate::rng::Rng;
use crate::testing::files::{Client, folder};
use crate::testing::{BUFFERS, Driver, SharedMemory, WRITE};
use crate::vsock::Vsock;

type Rngs = Arc<Mutex<Rng<SharedMemory>>>;
type Sockets = Arc<Mutex<Vsock<SharedMemory>>>;

#[test]
fn requests_that_wait_are_served_by_the_next_device() {
    let (first, second) = (Rngs::default(), Rngs::default());
    let mut driver = Driver::ready(first.clone());
    driver.add(0, &[(BUFFERS, 64, WRITE)]);
    lock(&(first as SharedDevice<SharedMemory>)).kicked(0);
    assert_eq!(driver.used(0), [64]);
    driver.write(0x64, 1);
    driver.add(0, &[(BUFFERS + 0x1000, 32, WRITE)]);
    driver.add(0, &[(BUFFERS + 0x2000, 16, WRITE)]);
    let mut driver = driver.go_on_with(second.clone());
    // Without events of its own the test's device looks at its queues when it is activated.
    assert_eq!(driver.used(0), [32, 16]);
    assert_eq!(driver.read(0x70), 15);
    assert_eq!(driver.read(0x60), 1, "and the guest is told");
    driver.add(0, &[(BUFFERS, 8, WRITE)]);
    lock(&(second as SharedDevice<SharedMemory>)).kicked(0);
    assert_eq!(driver.used(0), [8]);
}

#[test]
fn a_device_that_was_saved_goes_on_itself() {
    let rng = Rngs::default();
    let mut driver = Driver::ready(rng.clone());
    driver.bus.save().expect("it can be saved");
    driver.add(0, &[(BUFFERS, 64, WRITE)]);
    lock(&(rng.clone() as SharedDevice<SharedMemory>)).kicked(0);
    assert!(
        driver.used(0).is_empty(),
        "it stands still while memory is saved"
    );
    let twice = (driver.bus.save(), driver.bus.save());
    assert_eq!(twice.0.expect("it can be saved"), twice.1.expect("again"));
    driver.bus.resume();
    assert_eq!(driver.used(0), [64]);
    driver.write(0x70, 0);
    driver.bus.resume();
    lock(&(rng as SharedDevice<SharedMemory>)).kicked(0);
    assert_eq!(driver.read(0x70), 0);
}

#[test]
fn a_driver_that_has_not_come_far_goes_on_from_there() {
    let driver = Driver::new(Rngs::default());
    driver.accept(1);
    driver.write(0x14, 1);
    driver.set_up_queue(0, 0x1_0000);
    let driver = driver.go_on_with(Rngs::default());
    assert_eq!(driver.read(0x70), 11);
    assert_eq!(driver.read(0x10) & 1, 1, "the selected half");
    assert_eq!(driver.read(0x44), 1, "the queue is ready");
    driver.write(0x70, 15);
    assert_eq!(driver.read(0x70), 15);
}

#[test]
fn the_log_goes_on_where_it_was() {
    let memfd = rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC);
    let mut file = std::fs::File::from(memfd.expect("memory"));
    let console = || {
        let log = ConsoleLog::new(file.try_clone().expect("a descriptor"));
        Arc::new(Mutex::new(Console::new(Arc::new(log))))
    };
    let first = console();
    let mut driver = Driver::ready(first.clone());
    driver.put(BUFFERS, b"one\ntwo\n");
    driver.add(1, &[(BUFFERS, 4, 0)]);
    lock(&(first as SharedDevice<SharedMemory>)).kicked(1);
    driver.add(1, &[(BUFFERS + 4, 4, 0)]);
    let mut driver = driver.go_on_with(console());
    assert_eq!(driver.used(1), [0, 0]);
    let mut text = String::new();
    file.rewind().expect("a file");
    file.read_to_string(&mut text).expect("text");
    assert_eq!(text, "one\ntwo\n");
}

/// A device, and what became of the connections that were tried.
fn vsock() -> (Sockets, Arc<Mutex<Vec<bool>>>) {
    let poller = epoll::create(CreateFlags::CLOEXEC).expect("a descriptor");
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&outcomes);
    let tell = move |_, outcome: Result<(), &str>| {
        told.lock().expect("not poisoned").push(outcome.is_ok());
    };
    let device = Vsock::new(3, Arc::new(poller), tell);
    (Arc::new(Mutex::new(device)), outcomes)
}

/// The next packet that the guest is sent.
fn receive(driver: &mut Driver, at: u64) -> Header {
    assert_eq!(driver.used(0), [44]);
    Header::read_from_bytes(&driver.get(at, HEADER_LEN)).expect("a header")
}

fn packet(driver: &mut Driver, host_port: u32, op: Op, data: &[u8]) {
    let header = Header {
        src_cid: 3.into(),
        dst_cid: 2.into(),
        src_port: 1024.into(),
        dst_port: host_port.into(),
        len: u32::try_from(data.len()).expect("short").into(),
        kind: STREAM.into(),
        op: op.to_raw().into(),
        buf_alloc: 4096.into(),
        ..Header::default()
    };
    let at = BUFFERS + 0x8000 + u64::from(op.to_raw()) * 0x100;
    driver.put(at, &[header.as_bytes(), data].concat());
    let length = u32::try_from(HEADER_LEN + data.len()).expect("short");
    driver.add(1, &[(at, length, 0)]);
}

#[test]
fn streams_end_by_a_reset_and_what_was_sent_before_arrives() {
    let (first, outcomes) = vsock();
    let mut driver = Driver::ready(first.clone());
    let (mut host, stream) = UnixStream::pair().expect("sockets");
    host.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    for buffer in 0..4u64 {
        driver.add(0, &[(BUFFERS + buffer * 0x1000, 0x1000, WRITE)]);
    }
    first
        .lock()
        .expect("not poisoned")
        .connect(1, 1024, stream.into());
    let request = receive(&mut driver, BUFFERS);
    let port = request.src_port.get();
    packet(&mut driver, port, Op::Response, &[]);
    lock(&(first.clone() as SharedDevice<SharedMemory>)).kicked(1);
    assert_eq!(*outcomes.lock().expect("not poisoned"), [true]);
    // Sent, and not seen by the device when it is saved.
    packet(&mut driver, port, Op::Data, b"hello");
    let (second, _) = vsock();
    let mut driver = driver.go_on_with(second.clone());
    drop(first);
    let mut got = Vec::new();
    host.read_to_end(&mut got).expect("it hangs up");
    assert_eq!(got, b"hello");
    // The first device's kick after activation found nothing to tell; the second one tells of the reset.
    let reset = receive(&mut driver, BUFFERS + 0x1000);
    assert_eq!(
        (reset.op.get(), reset.src_port.get()),
        (Op::Reset.to_raw(), port)
    );
    let (mut host, stream) = UnixStream::pair().expect("sockets");
    second
        .lock()
        .expect("not poisoned")
        .connect(2, 1024, stream.into());
    let request = receive(&mut driver, BUFFERS + 0x2000);
    assert_eq!(request.op.get(), Op::Request.to_raw());
    assert_ne!(
        request.src_port.get(),
        port,
        "a port is not given out again"
    );
    host.write_all(b"x").expect("it is open");
}

#[test]
fn a_file_system_is_saved_until_it_is_used() {
    let folder = folder("saved");
    let shared = folder.join("shared");
    let root = shared.to_str().expect("a plain name");
    let device = |tag| {
        Arc::new(Mutex::new(
            Fs::<SharedMemory>::new(tag, root).expect("procfs"),
        ))
    };
    let driver = Driver::ready(device("root"));
    let saved = driver.bus.save().expect("nothing is open");
    let other = Driver::new(device("other"));
    let error = other.bus.restore(&saved).expect_err("another tag");
    assert!(error.to_string().contains("its tag is root"), "{error}");
    let driver = driver.go_on_with(device("root"));
    assert_eq!(driver.read(0x70), 15);
    let client = Client::mount(&shared);
    let error = client
        .driver
        .bus
        .save()
        .expect_err("it is mounted")
        .to_string();
    assert!(error.starts_with("fs cannot be saved: "), "{error}");
    std::fs::remove_dir_all(folder).expect("it is ours");
}

/// Changes one field of a state that a ready entropy device has saved, and restores it.
fn restore_with(path: &[&str], value: serde_json::Value) -> String {
    let saved = Driver::ready(Rngs::default())
        .bus
        .save()
        .expect("it can be saved");
    let mut saved = serde_json::to_value(saved).expect("plain");
    let mut field = &mut saved[0];
    for name in path {
        field = match name.parse::<usize>() {
            Ok(index) => &mut field[index],
            Err(_) => &mut field[*name],
        };
    }
    *field = value;
    let saved: Vec<Saved> = match serde_json::from_value(saved) {
        Ok(saved) => saved,
        Err(error) => return error.to_string(),
    };
    let driver = Driver::new(Rngs::default());
    let error = driver.bus.restore(&saved).expect_err("it is refused");
    assert_eq!(driver.read(0x70), 0, "and nothing is taken from it");
    error.to_string()
}

#[test]
fn a_state_that_is_none_of_the_device_is_refused_by_name() {
    let transport = ["state", "transport"];
    let field = |path: &[&'static str]| [&transport[..], path].concat();
    let check = |path: &[&str], value: serde_json::Value, said: &str| {
        let error = restore_with(path, value);
        assert!(error.contains(said), "{error}");
    };
    check(
        &["version"],
        7.into(),
        "virtio-mmio registers has version 7 and this program knows",
    );
    check(
        &field(&["version"]),
        2.into(),
        "the state of rng has version 2",
    );
    check(
        &field(&["of"]),
        "blk".into(),
        "this is the state of blk, and not of rng",
    );
    let device = field(&["state", "device", "version"]);
    check(&device, 9.into(), "the state of rng has version 9");
    check(
        &field(&["state", "status"]),
        "ready".into(),
        "rng is damaged",
    );
    check(
        &field(&["state", "queues"]),
        Vec::<u8>::new().into(),
        "0 queues instead of 1",
    );
    let queue = |name| field(&["state", "queues", "0", name]);
    check(&queue("used"), u64::MAX.into(), "queue 0");
    check(
        &queue("used"),
        0xffff_0000_0000u64.into(),
        "queue 0 is not in memory",
    );
    check(&queue("size"), 3.into(), "queue 0");
    check(&queue("max_size"), 128.into(), "queue 0 has 128 entries");
    let features = (1u64 << 32 | 1).into();
    check(
        &field(&["state", "accepted"]),
        features,
        "uses the features 0x1",
    );
    check(&["state"], 1.into(), "registers is damaged");
}

/// A device whose configuration has one byte, which the guest and the host change.
#[derive(Debug, Default)]
struct Dial {
    value: u8,
    active: Option<Active<SharedMemory>>,
}

impl Dial {
    fn turn(&mut self, value: u8) {
        self.value = value;
        if let Some(active) = &self.active {
            active.notifier.config_changed();
        }
    }
}

impl VirtioDevice<SharedMemory> for Dial {
    fn id(&self) -> u32 {
        42
    }

    fn name(&self) -> &'static str {
        "dial"
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[16]
    }

    fn features(&self) -> u64 {
        0b11
    }

    fn config(&self) -> Vec<u8> {
        vec![self.value]
    }

    fn write_config(&mut self, at: usize, data: &[u8]) {
        if let (0, [value]) = (at, data) {
            self.value = *value;
        }
    }

    fn activate(&mut self, active: Active<SharedMemory>) {
        self.active = Some(active);
    }

    fn kicked(&mut self, _: usize) {}

    fn suspend(&mut self) -> Option<Active<SharedMemory>> {
        self.active.take()
    }

    fn save(&self) -> Result<Saved, StateError> {
        Saved::new("dial", 1, &self.value)
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), StateError> {
        self.value = saved.fields("dial", 1)?;
        Ok(())
    }
}

#[test]
fn a_configuration_that_changes_is_told_and_counted() {
    let dial = Arc::new(Mutex::new(Dial::default()));
    let driver = Driver::ready(dial.clone());
    let byte = |driver: &Driver| {
        let mut byte = [0xff; 1];
        driver
            .bus
            .read(crate::testing::MMIO_START + 0x100, &mut byte);
        byte[0]
    };
    assert_eq!((driver.read(0xfc), byte(&driver)), (0, 0));
    dial.lock().expect("not poisoned").turn(7);
    assert_eq!((driver.read(0xfc), byte(&driver)), (1, 7));
    assert_eq!(driver.read(0x60), 2, "an interrupt of the configuration");
    driver.bus.write(crate::testing::MMIO_START + 0x100, &[9]);
    driver.bus.write(crate::testing::MMIO_START + 0x101, &[8]);
    assert_eq!((driver.read(0xfc), byte(&driver)), (1, 9));
    let driver = driver.go_on_with(Arc::new(Mutex::new(Dial::default())));
    assert_eq!((driver.read(0xfc), byte(&driver)), (1, 9));
    assert_eq!(driver.read(0x60), 2);
}

#[test]
fn a_device_hears_which_features_its_driver_accepted() {
    let dial = Arc::new(Mutex::new(Dial::default()));
    let driver = Driver::new(dial.clone());
    for status in [0, 1, 3] {
        driver.write(0x70, status);
    }
    for (half, bits) in [(0, 2), (1, 1)] {
        driver.write(0x24, half);
        driver.write(0x20, bits);
    }
    driver.write(0x70, 11);
    driver.write(0x20, 3);
    driver.write(0x70, 15);
    let features = |dial: &Mutex<Dial>| {
        let dial = dial.lock().expect("not poisoned");
        dial.active.as_ref().map(|active| active.features)
    };
    assert_eq!(features(&dial), Some(F_VERSION_1 | 2));
    let next = Arc::new(Mutex::new(Dial::default()));
    let _driver = driver.go_on_with(next.clone());
    assert_eq!(features(&next), Some(F_VERSION_1 | 2));
}
