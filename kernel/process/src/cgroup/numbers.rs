//! Numbers as Linux reads them from what is written to files of groups (`kstrtoint` and kin, base 0).

use abi::{Errno, Result};

/// A number in decimal, in hexadecimal behind `0x` or in octal behind `0`.
///
/// # Errors
/// `EINVAL` for what is none, `ERANGE` for one that is too large.
pub(super) fn signed(text: &str) -> Result<i64> {
    let text = text.trim_ascii();
    let (is_negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (digits, base) = match digits.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (&digits[2..], 16),
        [b'0', _, ..] => (&digits[1..], 8),
        _ => (digits, 10),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(base)) {
        return Err(Errno::EINVAL);
    }
    let size = u64::from_str_radix(digits, base).map_err(|_| Errno::ERANGE)?;
    let number = if is_negative {
        0_i64.checked_sub_unsigned(size)
    } else {
        i64::try_from(size).ok()
    };
    number.ok_or(Errno::ERANGE)
}

/// As [`signed`], of 32 bits.
pub(super) fn int(text: &str) -> Result<i32> {
    i32::try_from(signed(text)?).map_err(|_| Errno::ERANGE)
}

/// 0 or 1.
pub(super) fn switch(text: &str) -> Result<bool> {
    match int(text)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Errno::ERANGE),
    }
}

/// A count of at least 0; `None` for `max`.
pub(super) fn count_or_max(text: &str) -> Result<Option<usize>> {
    if text.trim_ascii() == "max" {
        return Ok(None);
    }
    let count = int(text)?;
    usize::try_from(count).map(Some).map_err(|_| Errno::ERANGE)
}

/// A size in bytes, with a letter for the power of 1024 (`memparse`).
pub(super) fn size(text: &str) -> Result<u64> {
    const LETTERS: &str = "KMGTPE";
    let (digits, power) = match text.char_indices().next_back() {
        Some((at, letter)) if !text.starts_with("0x") || !letter.is_ascii_hexdigit() => {
            let power = LETTERS.find(letter.to_ascii_uppercase());
            power.map_or((text, 0), |power| (&text[..at], power + 1))
        }
        _ => (text, 0),
    };
    let number = u64::try_from(signed(digits)?).map_err(|_| Errno::EINVAL)?;
    let factor = (0..power).fold(1_u64, |factor, _| factor << 10);
    Ok(number.saturating_mul(factor))
}
