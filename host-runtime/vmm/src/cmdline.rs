//! The kernel command line: what the VMM knows, then the caller's words.

use super::error::VmmError;
use super::layout::{MMIO_GSI, MMIO_START};
use devices::mmio::MMIO_SIZE;
use host_machine::control::quoted;

/// The longest command line, as Linux on x86 has it.
pub const MAX_LENGTH: usize = 4096;

/// Turns off what glibc would use of processor state that such a host's guest cannot switch.
const GLIBC_TUNABLES: &str = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,\
-AVX512BW,-AVX512DQ,-AVX512CD,-AVX_Fast_Unaligned_Load,-XSAVE,-XSAVEC,-ERMS,-FSRM";

/// What goes into the command line.
#[derive(Debug, Clone, Default)]
pub struct CommandLine<'a> {
    /// How many CPUs.
    pub cpus: u32,
    /// The frequency of the time-stamp counter, if KVM knows it.
    pub tsc_khz: Option<u32>,
    /// Unix time when the guest's time-stamp counter was zero.
    pub epoch_ns: u64,
    /// How many virtio-mmio devices.
    pub devices: u32,
    /// Whether user programs see processor features that the guest kernel cannot switch.
    pub hides_xsave: bool,
    /// The features that the guest may use, where CPUID in the guest names more than work (see
    /// [`super::cpuid::CpuidTemplate::features`]).
    pub features: Option<[u32; 5]>,
    /// The caller's words.
    pub extra: &'a [String],
}

impl CommandLine<'_> {
    /// The line.
    ///
    /// # Errors
    /// When it is longer than [`MAX_LENGTH`].
    pub fn build(&self) -> Result<String, VmmError> {
        let mut words = vec![format!("nacre.cpus={}", self.cpus)];
        if let Some(khz) = self.tsc_khz {
            words.push(format!("nacre.tsc_khz={khz}"));
        }
        words.push(format!("nacre.epoch_ns={}", self.epoch_ns));
        if let Some(masks) = self.features {
            let masks = masks.map(|mask| format!("{mask:08x}"));
            words.push(format!("nacre.cpuid={}", masks.join(":")));
        }
        for device in 0..self.devices {
            let address = MMIO_START + u64::from(device) * MMIO_SIZE;
            words.push(format!(
                "virtio_mmio.device=4K@{address:#x}:{}",
                MMIO_GSI + device
            ));
        }
        if self.hides_xsave
            && !self
                .extra
                .iter()
                .any(|word| word.starts_with("GLIBC_TUNABLES="))
        {
            words.push(GLIBC_TUNABLES.to_owned());
        }
        words.extend(self.extra.iter().map(|word| quoted(word)));
        let line = words.join(" ");
        if line.len() > MAX_LENGTH {
            return Err(VmmError::CommandLine {
                length: line.len(),
                most: MAX_LENGTH,
            });
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_the_contract_words_first() {
        let extra = ["quiet".to_owned(), "PS1=a b".to_owned()];
        let line = CommandLine {
            cpus: 2,
            tsc_khz: Some(2_100_000),
            epoch_ns: 17,
            devices: 2,
            hides_xsave: false,
            features: None,
            extra: &extra,
        };
        let expected = "nacre.cpus=2 nacre.tsc_khz=2100000 nacre.epoch_ns=17 \
            virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6 quiet PS1=\"a b\"";
        assert_eq!(line.build().expect("short"), expected);
    }

    #[test]
    fn too_long_is_refused() {
        let extra = ["x".repeat(MAX_LENGTH)];
        let line = CommandLine {
            cpus: 1,
            extra: &extra,
            ..CommandLine::default()
        };
        assert!(matches!(line.build(), Err(VmmError::CommandLine { .. })));
    }
}
