//! Sleeping locks' words on one thread and on several.

use super::LockCell;

#[test]
fn one_writer_or_many_readers() {
    let mut cell = LockCell::new(5);
    let mut alone = cell.try_write(false).expect("free");
    *alone += 1;
    assert!(cell.try_write(true).is_none() && cell.try_read(true).is_none());
    assert!(!alone.release());
    let (a, b) = (cell.try_read(false), cell.try_read(false));
    let (a, b) = (a.expect("free"), b.expect("shared"));
    assert_eq!((*a, *b), (6, 6));
    assert!(cell.try_write(true).is_none());
    cell.set_waited_for();
    assert!(!a.release(), "not the last");
    assert!(b.release(), "somebody waits");
    assert!(cell.try_write(false).expect("free").release());
    cell.clear_waited_for();
    assert_eq!(*cell.get_mut(), 6);
}

#[test]
fn what_is_reserved_goes_to_whom_it_is_for() {
    let cell = LockCell::new(());
    cell.set_reserved();
    assert!(cell.try_write(false).is_none() && cell.try_read(false).is_none());
    drop(cell.try_read(true).expect("bypasses"));
    drop(cell.try_write(true).expect("for me"));
    cell.clear_reserved();
    assert!(cell.try_write(false).is_some());
}

#[test]
fn it_excludes() {
    static CELL: LockCell<(u64, u64)> = LockCell::new((0, 0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(|| {
                for _ in 0..5000 {
                    loop {
                        if let Some(mut both) = CELL.try_write(false) {
                            both.0 += 1;
                            both.1 = both.0;
                            break;
                        }
                        std::thread::yield_now();
                    }
                    if let Some(both) = CELL.try_read(false) {
                        assert_eq!(both.0, both.1);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no reader saw half a change");
    }
    let both = CELL.try_read(false).expect("free");
    assert_eq!(*both, (20_000, 20_000));
}
