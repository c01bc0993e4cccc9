//! `memcmp`: what comparisons of byte strings compile to. What the kernel compares most are names of a few bytes,
//! for which the one of `compiler_builtins`, which this replaces, takes four times as long.

/// How `a` is to `b`, which is as long: negative, 0 or positive, by the first byte that differs.
#[inline]
fn order(a: &[u8], b: &[u8]) -> i32 {
    if let (Some(last), Some(other_last)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        for (word, other) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
            let (word, other) = (eight(word), eight(other));
            if word != other {
                return sign(word, other);
            }
        }
        // The bytes before these are known to be equal.
        return sign(u64::from_be_bytes(*last), u64::from_be_bytes(*other_last));
    }
    if let (Some(first), Some(other_first)) = (a.first_chunk::<4>(), b.first_chunk::<4>()) {
        let (first, other) = (u32::from_be_bytes(*first), u32::from_be_bytes(*other_first));
        if first != other {
            return sign(first, other);
        }
    }
    // Four bytes again, or up to three.
    let few = |bytes: &[u8]| match *bytes {
        [.., a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
        [a, b, c] => u32::from_be_bytes([0, a, b, c]),
        [a, b] => u32::from_be_bytes([0, 0, a, b]),
        [a] => u32::from(a),
        [] => 0,
    };
    sign(few(a), few(b))
}

/// The number whose order is that of the eight bytes.
#[inline]
fn eight(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[inline]
fn sign<T: Ord + Copy>(a: T, b: T) -> i32 {
    i32::from(a > b) - i32::from(a < b)
}

/// # Safety
/// `len` bytes at `a` and at `b` can be read.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's promise; compiled comparisons of slices pass pointers that are not null.
    let a = unsafe { core::slice::from_raw_parts(a, len) };
    // SAFETY: as above.
    let b = unsafe { core::slice::from_raw_parts(b, len) };
    order(a, b)
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn it_orders_as_byte_by_byte() {
        let mut state = 1_u64;
        let mut random = move |below: u8| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[1] % below
        };
        for len in 0..40_u8 {
            for _ in 0..200 {
                let a: Vec<u8> = (0..len).map(|_| random(3) * 127).collect();
                let mut b = a.clone();
                for _ in 0..random(3) {
                    if len > 0 {
                        b[usize::from(random(len))] = random(255);
                    }
                }
                let wanted = a.iter().cmp(b.iter()) as i32;
                assert_eq!(order(&a, &b), wanted, "{a:?} {b:?}");
            }
        }
    }
}
