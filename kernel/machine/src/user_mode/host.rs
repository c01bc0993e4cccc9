//! Host double: registers and FPU bytes that nothing runs.

use core::marker::PhantomData;

use super::{DebugRegisters, Registers, UserExit};
use crate::heap::{AllocError, admit};

/// Bytes of the double's FPU area: an FXSAVE image.
const FPU_LEN: usize = 512;

/// The user side of a thread: registers and FPU state. It stays with the thread that runs it.
#[derive(Debug)]
pub struct UserContext {
    /// The registers.
    pub regs: Registers,
    /// Its breakpoints.
    pub debug: DebugRegisters,
    fpu: [u8; FPU_LEN],
    _not_send: PhantomData<*const ()>,
}

/// A user side on its way to the thread that will run it.
#[derive(Debug)]
pub struct NewContext {
    /// The registers.
    pub regs: Registers,
    fpu: [u8; FPU_LEN],
}

fn fpu_after_exec() -> [u8; FPU_LEN] {
    let mut image = [0; FPU_LEN];
    image[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    image[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
    image
}

impl NewContext {
    /// Registers zero, FPU as after exec.
    ///
    /// # Errors
    /// [`AllocError`].
    pub fn new() -> Result<Self, AllocError> {
        admit()?;
        Ok(Self {
            regs: Registers::default(),
            fpu: fpu_after_exec(),
        })
    }

    /// The context of the thread that calls this.
    #[must_use]
    pub fn start(self) -> UserContext {
        UserContext {
            regs: self.regs,
            debug: DebugRegisters::default(),
            fpu: self.fpu,
            _not_send: PhantomData,
        }
    }
}

impl UserContext {
    /// Registers zero, FPU as after exec.
    ///
    /// # Errors
    /// [`AllocError`].
    pub fn new() -> Result<Self, AllocError> {
        NewContext::new().map(NewContext::start)
    }

    /// A copy for a forked thread, FPU state included, breakpoints not.
    ///
    /// # Errors
    /// [`AllocError`].
    pub fn duplicate(&self) -> Result<NewContext, AllocError> {
        admit()?;
        Ok(NewContext {
            regs: self.regs,
            fpu: self.fpu,
        })
    }

    /// Never returns: there is no user mode under a host test.
    ///
    /// # Panics
    /// Always.
    pub fn run(&mut self) -> UserExit {
        panic!("user code runs only in a guest");
    }

    /// FPU state as exec leaves it.
    pub fn reset_fpu(&mut self) {
        self.fpu = fpu_after_exec();
    }

    /// The FPU state in the layout of a signal frame (FXSAVE).
    pub fn fpu_bytes(&mut self) -> &[u8] {
        &self.fpu
    }

    /// Takes FPU state from a signal frame; `None` (state unchanged) when a load of it would fault.
    pub fn set_fpu_bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let bytes: &[u8; FPU_LEN] = bytes.get(..FPU_LEN)?.try_into().ok()?;
        let mxcsr = u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]);
        if mxcsr & 0xffff_0000 != 0 {
            return None;
        }
        self.fpu = *bytes;
        Some(())
    }
}

/// The parts of the FPU state that are enabled (XCR0): the double has none but FXSAVE's.
#[must_use]
pub fn xstate_features() -> u64 {
    0
}
