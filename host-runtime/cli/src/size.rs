//! Sizes as people write them.

use std::str::FromStr;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(format!("{text:?} is not a size; write 512M or 2G")),
        };
        let number: u64 = number
            .parse()
            .map_err(|_| format!("{text:?} is not a size; write 512M or 2G"))?;
        number
            .checked_mul(1 << shift)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is more than any machine has"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        assert_eq!("1".parse(), Ok(Size(1)));
        assert_eq!("64k".parse(), Ok(Size(64 << 10)));
        assert_eq!("256M".parse(), Ok(Size(256 << 20)));
        assert_eq!("2GiB".parse(), Ok(Size(2 << 30)));
        assert_eq!("1T".parse(), Ok(Size(1 << 40)));
        for wrong in [
            "",
            "M",
            "-1",
            "1.5G",
            "1P",
            "99999999999999999999",
            "18014398509481984k",
        ] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
