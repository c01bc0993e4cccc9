//! The `virtio_mmio.device=SIZE@ADDR:IRQ[:ID]` words of a command line, in Linux's syntax.

use crate::addr::PhysAddr;

/// Registers of a virtio-mmio device and the interrupt line it raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    /// Where the registers start.
    pub(super) base: PhysAddr,
    /// Bytes of registers.
    pub(super) len: usize,
    /// Global system interrupt.
    pub(super) gsi: u32,
}

/// Every device word of `command_line`; `Err` holds one that cannot be read.
pub(super) fn parse(command_line: &str) -> impl Iterator<Item = Result<Window, &str>> {
    command_line
        .split_ascii_whitespace()
        // What follows `--` is PID 1's.
        .take_while(|word| *word != "--")
        .filter_map(|word| Some((word, word.strip_prefix("virtio_mmio.device=")?)))
        .map(|(word, value)| window(value).ok_or(word))
}

fn window(value: &str) -> Option<Window> {
    let (size, rest) = value.split_once('@')?;
    let mut parts = rest.split(':');
    let base = number(parts.next()?)?;
    let gsi = number(parts.next()?)?;
    let len = usize::try_from(size_of_word(size)?).ok()?;
    // Linux allows a device id at the end; it has no meaning here.
    if let Some(id) = parts.next() {
        number(id)?;
    }
    let fits = parts.next().is_none() && base.checked_add(len as u64)? <= 1 << 46;
    let whole = len >= super::MMIO_REGISTERS_LEN && base.is_multiple_of(4);
    (fits && whole).then_some(Window {
        base: PhysAddr(base),
        len: len.min(64 * 1024),
        gsi: u32::try_from(gsi).ok()?,
    })
}

fn size_of_word(word: &str) -> Option<u64> {
    let (digits, shift) = match word.as_bytes().last()? {
        b'K' | b'k' => (&word[..word.len() - 1], 10),
        b'M' | b'm' => (&word[..word.len() - 1], 20),
        b'G' | b'g' => (&word[..word.len() - 1], 30),
        _ => (word, 0),
    };
    number(digits)?.checked_mul(1 << shift)
}

fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_linux_words_in_order() {
        let line =
            "quiet virtio_mmio.device=4K@0xd0000000:5 x=1 virtio_mmio.device=512@0xfeb00e00:12:3";
        let windows: Vec<_> = parse(line).map(Result::unwrap).collect();
        assert_eq!(
            windows,
            [
                Window {
                    base: PhysAddr(0xd000_0000),
                    len: 4096,
                    gsi: 5
                },
                Window {
                    base: PhysAddr(0xfeb0_0e00),
                    len: 512,
                    gsi: 12
                },
            ]
        );
    }

    #[test]
    fn names_words_it_cannot_read() {
        for bad in [
            "4K",
            "@:",
            "4K@0xd0000000",
            "4K@0xzz:5",
            "16@0xd0000000:5",
            "4K@3:5",
            "4K@1:2:3:4",
        ] {
            let line = format!("virtio_mmio.device={bad}");
            assert_eq!(parse(&line).next(), Some(Err(line.as_str())), "{bad}");
        }
    }

    #[test]
    fn leaves_the_words_of_init_alone() {
        assert_eq!(parse("a -- virtio_mmio.device=4K@0xd0000000:5").count(), 0);
    }

    #[test]
    fn noise_is_refused_or_a_window_in_memory() {
        const PIECES: [&str; 16] = [
            "virtio_mmio.device=",
            "4K",
            "512",
            "@",
            ":",
            "0x",
            "ffffffffffffffff",
            "18446744073709551615",
            "G",
            " ",
            "-",
            "--",
            "k",
            "7",
            "é",
            "\u{0}",
        ];
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            let mut line = String::from("virtio_mmio.device=");
            for _ in 0..8 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                line.push_str(PIECES[(seed >> 32) as usize % PIECES.len()]);
            }
            for window in parse(&line).flatten() {
                assert!(window.base.0 + window.len as u64 <= 1 << 46, "{line:?}");
                assert!(window.len >= crate::virtio::MMIO_REGISTERS_LEN, "{line:?}");
            }
        }
    }
}
