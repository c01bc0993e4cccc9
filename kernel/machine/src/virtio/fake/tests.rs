//! What a queue promises whatever its device does, against the double.

use super::*;
use crate::frame::Frame;
use crate::test_vec;

fn segment(bytes: &[u8]) -> Segment {
    let frame = Frame::alloc_zeroed().unwrap();
    frame.write(16, bytes);
    Segment::new(frame, 16, bytes.len()).unwrap()
}

#[test]
fn requests_come_back_with_answer_and_context() {
    let echo: Handler = Box::new(|device, pending| {
        let mut bytes = pending.request();
        bytes.reverse();
        device.answer(pending, &bytes);
    });
    let (queue, _device) = queue::<u32>(4, echo);
    let room = test_vec![segment(&[0; 2]), segment(&[0; 8])];
    queue
        .submit(test_vec![segment(b"abc"), segment(b"de")], room, 7)
        .unwrap();
    let done = queue.completed().unwrap();
    assert_eq!((done.context, done.written), (7, 5));
    let mut first = [0; 2];
    done.writable[0].read(0, &mut first);
    let mut second = [0; 8];
    done.writable[1].read(0, &mut second);
    assert_eq!((&first, &second), (b"ed", b"cba\0\0\0\0\0"));
    assert!(queue.completed().is_none() && !queue.is_broken());
}

#[test]
fn a_full_queue_gives_everything_back() {
    let (queue, _device) = queue::<u32>(1, Box::new(|_, _| {}));
    queue
        .submit(test_vec![segment(b"a")], test_vec![], 1)
        .unwrap();
    let rejected = queue
        .submit(test_vec![segment(b"b")], test_vec![], 2)
        .unwrap_err();
    assert_eq!(
        (rejected.context, rejected.readable.len(), rejected.broken),
        (2, 1, false)
    );
}

#[test]
fn a_device_that_lies_is_given_up() {
    for (head, written) in [(3, 0), (900, 0), (0, 9)] {
        let (queue, device) = queue::<u32>(4, Box::new(|_, _| {}));
        queue
            .submit(test_vec![segment(b"a")], test_vec![segment(&[0; 8])], 1)
            .unwrap();
        device.claim(head, written);
        assert!(queue.completed().is_none(), "{head} {written}");
        assert!(queue.is_broken());
        assert!(
            queue
                .submit(test_vec![segment(b"a")], test_vec![], 2)
                .unwrap_err()
                .broken
        );
    }
}

#[test]
fn segments_stay_inside_their_frame() {
    let frame = Frame::alloc_zeroed().unwrap();
    assert!(Segment::new(frame.clone(), 0, 0).is_none());
    assert!(Segment::new(frame.clone(), 4095, 2).is_none());
    assert!(Segment::new(frame.clone(), usize::MAX, 2).is_none());
    assert_eq!(Segment::new(frame, 4095, 1).unwrap().len(), 1);
}

#[test]
#[should_panic(expected = "a device is to write boot memory")]
fn no_device_writes_boot_memory() {
    let (queue, _device) = queue::<u32>(4, Box::new(|_, _| {}));
    let _ = queue.submit(test_vec![], test_vec![Segment::page(boot_frame())], 1);
}

#[test]
fn a_device_may_read_boot_memory() {
    let (queue, _device) = queue::<u32>(4, Box::new(|device, it| device.answer(it, &[])));
    queue
        .submit(
            test_vec![Segment::page(boot_frame())],
            test_vec![segment(&[0])],
            1,
        )
        .unwrap();
    assert!(queue.completed().is_some());
}

fn boot_frame() -> Frame {
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    static PAGE: Page = Page([7; 4096]);
    Frame::from_boot_memory(&PAGE.0).unwrap()
}
