//! The CMOS clock: seconds, at boot.

use crate::x86::port;

const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
const DAY: u8 = 7;
const MONTH: u8 = 8;
const YEAR: u8 = 9;
const STATUS_A: u8 = 10;
const STATUS_B: u8 = 11;
const UPDATING: u8 = 0x80;
const BINARY: u8 = 4;
const HOURS_24: u8 = 2;

fn read(register: u8) -> u8 {
    port::out8(0x70, register);
    port::in8(0x71)
}

/// Unix time in seconds; `None` without a clock.
pub(super) fn unix_seconds() -> Option<u64> {
    if read(STATUS_B) == 0xff {
        return None;
    }
    // Two equal readings, so that no update came in between.
    (0..100)
        .find_map(|_| {
            if read(STATUS_A) & UPDATING != 0 {
                return None;
            }
            let fields = snapshot();
            (fields == snapshot()).then_some(fields)
        })
        .and_then(to_unix)
}

fn snapshot() -> [u8; 6] {
    [YEAR, MONTH, DAY, HOURS, MINUTES, SECONDS].map(read)
}

fn to_unix(fields: [u8; 6]) -> Option<u64> {
    let status = read(STATUS_B);
    let afternoon = status & HOURS_24 == 0 && fields[3] & 0x80 != 0;
    let decode = |field: u8| -> u64 {
        let value = u64::from(field & 0x7f);
        if status & BINARY != 0 {
            value
        } else {
            (value >> 4) * 10 + (value & 15)
        }
    };
    let year = u64::from(fields[0] >> 4) * 10 + u64::from(fields[0] & 15);
    let year = 2000
        + if status & BINARY != 0 {
            u64::from(fields[0])
        } else {
            year
        };
    let (month, day) = (decode(fields[1]), decode(fields[2]));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let hour = decode(fields[3]);
    let hour = if status & HOURS_24 == 0 {
        hour % 12 + if afternoon { 12 } else { 0 }
    } else {
        hour
    };
    let seconds = decode(fields[5]) + 60 * (decode(fields[4]) + 60 * hour);
    Some(days_since_1970(year, month, day) * 86_400 + seconds)
}

/// Days from 1970-01-01, counting years from March so that the leap day comes last.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}
