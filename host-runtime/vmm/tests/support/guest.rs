//! Guest programs of a few instructions, for tests of the VMM without a kernel.

/// Machine code that is put together an instruction at a time.
#[derive(Default)]
pub(crate) struct Code(Vec<u8>);

impl Code {
    /// Writes a byte to a port.
    pub(crate) fn out8(mut self, port: u16, value: u8) -> Self {
        self.port(port);
        self.0.extend_from_slice(&[0xb0, value, 0xee]);
        self
    }

    /// Writes a word to a port.
    pub(crate) fn out16(mut self, port: u16, value: u16) -> Self {
        self.port(port);
        self.0.extend_from_slice(&[0x66, 0xb8]);
        self.0.extend_from_slice(&value.to_le_bytes());
        self.0.extend_from_slice(&[0x66, 0xef]);
        self
    }

    /// Writes text to the serial port.
    pub(crate) fn print(self, text: &str) -> Self {
        text.bytes().fold(self, |code, byte| code.out8(0x3f8, byte))
    }

    /// Writes the command line, which RSI and RDX describe at entry, to the serial port.
    pub(crate) fn print_command_line(mut self) -> Self {
        // mov rcx, rdx
        self.0.extend_from_slice(&[0x48, 0x89, 0xd1]);
        self.rep_out()
    }

    /// Writes so many bytes from where RDI points at entry to the serial port.
    pub(crate) fn print_boot_info(mut self, length: u32) -> Self {
        // mov rsi, rdi; mov ecx, length
        self.0.extend_from_slice(&[0x48, 0x89, 0xfe, 0xb9]);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.rep_out()
    }

    /// Raw instructions.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Powers the machine off.
    pub(crate) fn power_off(self) -> Vec<u8> {
        self.out16(0x604, 0x2000).wait()
    }

    /// Halts for good.
    pub(crate) fn wait(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0xf4, 0xeb, 0xfd]);
        self.0
    }

    fn rep_out(mut self) -> Self {
        self.port(0x3f8);
        self.0.extend_from_slice(&[0xf3, 0x6e]);
        self
    }

    /// mov dx, port
    fn port(&mut self, port: u16) {
        self.0.extend_from_slice(&[0x66, 0xba]);
        self.0.extend_from_slice(&port.to_le_bytes());
    }
}
