//! The reporter against a device: what is free is told, once, and in requests of a few blocks.

use std::sync::Arc;
use std::sync::Mutex;

use machine::frame::reporting::{pretend_free, reported, unreported};
use machine::virtio::fake;
use sched::WaitQueue;

use super::{BATCH, Reporter, Reports};

#[test]
fn all_that_is_free_is_told_and_a_device_that_lies_is_left() {
    let sizes = Arc::new(Mutex::new(Vec::new()));
    let (seen, lies) = (sizes.clone(), Arc::new(Mutex::new(false)));
    let is_lying = lies.clone();
    let handler = move |device: &fake::FakeDevice, request: fake::Pending| {
        if *is_lying.lock().unwrap() {
            device.claim(request.head + 1, 0);
            return;
        }
        seen.lock().unwrap().push(request.room());
        device.answer(request, &[]);
    };
    let (queue, device): (Arc<Reports>, _) = fake::queue(BATCH.into(), Box::new(handler));
    let activity = Arc::new(WaitQueue::new());
    let woken = activity.clone();
    device.set_events(Arc::new(move || woken.wake_all()));
    let reporter = Reporter { queue, activity };
    assert!(matches!(reporter.report_all(), Ok(0)));

    // Forty blocks of a MiB each, and one of a page.
    pretend_free(40 * 256 + 1);
    let all = 40 * 256 + 1;
    assert!(matches!(reporter.report_all(), Ok(reported) if reported == all));
    assert_eq!((reported(), unreported()), (all, 0));
    assert_eq!(*sizes.lock().unwrap(), [32 << 20, (8 << 20) + 4096]);
    assert!(matches!(reporter.report_all(), Ok(0)));

    // What a device is not done with was not reported, and is free again once the queue is gone.
    pretend_free(256);
    *lies.lock().unwrap() = true;
    assert!(reporter.report_all().is_err());
    drop(reporter);
    assert_eq!((reported(), unreported()), (all, 256));
}
