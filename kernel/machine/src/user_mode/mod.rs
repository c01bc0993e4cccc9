//! Running user code: registers in, the reason it stopped out.

#[cfg(target_os = "none")]
mod bare;
mod debug;
#[cfg(not(target_os = "none"))]
mod host;

#[cfg(target_os = "none")]
pub use bare::{NewContext, UserContext, xstate_features};
pub use debug::{BREAKPOINTS, DebugRegisters};
#[cfg(not(target_os = "none"))]
pub use host::{NewContext, UserContext, xstate_features};

use crate::addr::UserAddr;

/// The first user code is about to run: the boot is over. Once.
pub fn begin() {
    #[cfg(target_os = "none")]
    crate::boot::bare::first_user_instruction();
}

/// User registers, in the order the trap path saves them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the registers'")]
#[repr(C)]
pub struct Registers {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rsp: u64,
    pub rflags: u64,
    pub fs_base: u64,
    pub gs_base: u64,
}

/// Why user code stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserExit {
    /// A system call: number in `rax`, arguments in `rdi rsi rdx r10 r8 r9`; `rip` is behind the
    /// instruction, `rcx`/`r11` as SYSCALL left them.
    Syscall,
    /// A page fault.
    PageFault(PageFault),
    /// Another exception: vector and error code (0 where there is none).
    Exception {
        /// x86 vector, 0 to 31.
        vector: u8,
        /// The pushed error code; of a debug exception (vector 1) the status in DR6 instead.
        error_code: u32,
    },
    /// An interrupt was handled; time to look for signals and for other threads to run.
    Interrupt,
}

/// A page fault in user mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFault {
    /// The address touched (CR2).
    pub addr: UserAddr,
    /// A store.
    pub write: bool,
    /// An instruction fetch.
    pub exec: bool,
    /// The page was there, but not for this.
    pub present: bool,
}
