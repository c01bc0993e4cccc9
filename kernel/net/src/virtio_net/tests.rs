//! A driver against devices that take what they get, that lie, and that stop.

use std::sync::{Arc, Mutex};
use std::vec::Vec;

use machine::virtio::fake::{self, FakeDevice, Pending};

use super::*;
use machine::virtio::RequestQueue;

/// Notes what it is handed.
#[derive(Default)]
struct Noted {
    frames: Mutex<Vec<(Vec<u8>, bool)>>,
    rooms: Mutex<usize>,
}

impl Upper for Noted {
    fn receive(&self, frame: &[u8], is_verified: bool) {
        self.frames
            .lock()
            .unwrap()
            .push((frame.to_vec(), is_verified));
    }

    fn room(&self) {
        *self.rooms.lock().unwrap() += 1;
    }

    fn set_carrier(&self, _: bool) {}
}

impl Noted {
    fn take(&self) -> Vec<(Vec<u8>, bool)> {
        std::mem::take(&mut *self.frames.lock().unwrap())
    }
}

/// What the device has been given and has not answered.
type Held = Arc<Mutex<Vec<Pending>>>;

fn queue() -> (Arc<RequestQueue<()>>, FakeDevice, Held) {
    let held = Held::default();
    let keeps = held.clone();
    let (queue, device) = fake::queue(
        256,
        Box::new(move |_, pending| keeps.lock().unwrap().push(pending)),
    );
    (queue, device, held)
}

fn identity(features: u64) -> Identity {
    let config = [2, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0xdc, 5];
    Identity::read(features | feature::MAC | feature::MTU, config).expect("it makes sense")
}

fn header(flags: u8, buffers: u16) -> Vec<u8> {
    let mut header = vec![0; header::LEN];
    header[0] = flags;
    header[10..].copy_from_slice(&buffers.to_le_bytes());
    header
}

/// Has the device write these bytes into its next buffer.
fn write(device: &FakeDevice, held: &Held, bytes: &[u8]) {
    let pending = held.lock().unwrap().remove(0);
    device.answer(pending, bytes);
}

#[test]
fn frames_are_handed_on_with_what_is_known_of_their_checksums() {
    let (queue, device, held) = queue();
    let features = feature::MRG_RXBUF | feature::GUEST_CSUM;
    let mut receiver = Receiver::new(queue, identity(features)).expect("memory");
    let upper = Noted::default();
    let offered = held.lock().unwrap().len();
    for flags in [0, 1, 2] {
        let frame = [flags; 60];
        write(&device, &held, &[&header(flags, 1)[..], &frame].concat());
        assert!(receiver.take_in(&upper));
        assert_eq!(upper.take(), [(frame.to_vec(), flags != 0)]);
    }
    assert!(!receiver.take_in(&upper));
    assert_eq!(held.lock().unwrap().len(), offered, "the buffers go back");
}

#[test]
fn a_frame_in_several_buffers_is_put_together_however_they_come() {
    let (queue, device, held) = queue();
    let mut receiver = Receiver::new(queue, identity(feature::MRG_RXBUF)).expect("memory");
    let upper = Noted::default();
    let frame: Vec<u8> = (0..9000u32).map(|at| at.to_le_bytes()[0]).collect();
    let bytes = [header(0, 3), frame.clone()].concat();
    for part in bytes.chunks(PAGE_SIZE) {
        write(&device, &held, part);
        receiver.take_in(&upper);
    }
    assert_eq!(upper.take(), [(frame, false)]);
}

#[test]
fn what_makes_no_sense_is_dropped_alone() {
    let (queue, device, held) = queue();
    let mut receiver = Receiver::new(queue.clone(), identity(feature::MRG_RXBUF)).expect("memory");
    let upper = Noted::default();
    let good = [header(0, 1), vec![7; 60]].concat();
    // No header, nothing behind it, in no buffers, and in more than there are, which is waited for.
    for bad in [
        vec![1; 3],
        header(0, 1),
        [header(0, 0), vec![7; 60]].concat(),
    ] {
        write(&device, &held, &bad);
        write(&device, &held, &good);
        receiver.take_in(&upper);
        assert_eq!(upper.take(), [(vec![7; 60], false)]);
    }
    // Longer than a packet can be.
    let page = vec![9; PAGE_SIZE];
    let first = [&header(0, 20)[..], &page[header::LEN..]].concat();
    write(&device, &held, &first);
    for _ in 1..20 {
        write(&device, &held, &page);
        receiver.take_in(&upper);
    }
    assert_eq!(upper.take(), []);
    write(&device, &held, &good);
    receiver.take_in(&upper);
    assert_eq!(upper.take().len(), 1);
    // A device that completes what it was never given is believed nothing any more.
    device.claim(999, 5);
    receiver.take_in(&upper);
    assert!(receiver.is_broken() && upper.take().is_empty());
}

#[test]
fn frames_are_sent_from_pieces_with_their_checksums_to_do() {
    let (queue, _, held) = queue();
    let transmitter = Transmitter::new(queue, 9000).expect("memory");
    let payload = vec![5; 8000];
    let checksum = ChecksumStart {
        start: 34,
        offset: 16,
    };
    let sent = transmitter.send(&[&[1; 14], &[], &payload], Some(checksum));
    assert_eq!(sent, Ok(()));
    let bytes = held.lock().unwrap()[0].request();
    assert_eq!(bytes.len(), header::LEN + 14 + 8000);
    assert_eq!(bytes[..header::LEN], [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0]);
    assert_eq!(bytes[header::LEN..][..14], [1; 14]);
    assert_eq!(bytes[header::LEN + 14..], payload);
    // Longer than the device takes: lost, and nobody waits for it.
    assert_eq!(transmitter.send(&[&[0; 9015]], None), Ok(()));
    assert_eq!(held.lock().unwrap().len(), 1);
}

#[test]
fn a_full_queue_is_told_and_so_is_its_room() {
    let (queue, device, held) = queue();
    let transmitter = Transmitter::new(queue, 1500).expect("memory");
    let mut sent = 0;
    while transmitter.send(&[&[3; 60]], None).is_ok() {
        sent += 1;
        assert!(sent < 1000, "it is never full");
    }
    assert!(!transmitter.has_room_again());
    for pending in held.lock().unwrap().drain(..) {
        device.answer(pending, &[]);
    }
    assert!(transmitter.has_room_again());
    assert!(!transmitter.has_room_again(), "it is told once");
    for _ in 0..3 * sent {
        assert_eq!(transmitter.send(&[&[3; 60]], None), Ok(()));
        for pending in held.lock().unwrap().drain(..) {
            device.answer(pending, &[]);
        }
    }
    device.claim(999, 0);
    while transmitter.send(&[&[3; 60]], None).is_ok() && !transmitter.is_broken() {}
    assert_eq!(
        transmitter.send(&[&[3; 60]], None),
        Ok(()),
        "lost, as without a cable"
    );
}

#[test]
fn devices_that_say_nonsense_of_themselves_are_left_alone() {
    let read = |features, change: fn(&mut [u8; 12])| {
        let mut config = [2, 0, 0, 0, 0, 1, 1, 0, 1, 0, 0xdc, 5];
        change(&mut config);
        Identity::read(features | feature::MAC | feature::MTU, config)
    };
    assert_eq!(read(0, |_| {}).map(|one| one.mtu), Some(1500));
    assert_eq!(read(0, |config| config[0] = 1), None);
    assert_eq!(read(0, |config| config[..6].fill(0)), None);
    assert_eq!(read(0, |config| config[10..].fill(0)), None);
    // As much as there is room for.
    let large = |config: &mut [u8; 12]| config[10..].fill(0xff);
    assert_eq!(read(0, large).map(|one| one.mtu), Some(4070));
    let merging = read(feature::MRG_RXBUF, large);
    assert_eq!(merging.map(|one| one.mtu), Some(MTU_MOST));
}
