//! Tasks on the bare machine: a stack, and the stack pointer below which the registers are saved.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::arch::global_asm;
use core::cell::Cell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::frame::OutOfMemory;
use crate::frame::account::AccountId;
use crate::heap;
use crate::interrupt;
use crate::interrupt::bare::turn_on;
use crate::rcu;
use crate::sync::SpinLock;
use crate::x86::stack::Stack;
use crate::x86::{fpu, percpu, tlb};

unsafe extern "C" {
    /// Pushes the registers that a call keeps, stores the stack pointer, and continues on the
    /// other stack.
    ///
    /// # Safety
    /// `next` was stored by an earlier call, or is the foot of a new task's stack; nothing else runs there.
    fn switch_stacks(save: *mut u64, next: u64);
    static task_start: u8;
}

global_asm!(
    r#"
    .section .text.task, "ax"
    .balign 16
switch_stacks:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rdi], rsp
    mov rsp, rsi
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
    .global task_start
task_start:
    xor ebp, ebp
    call {run}
    ud2
    "#,
    run = sym run_new_task,
);

/// A kernel stack (with a guard page below it) and the registers saved on it.
pub struct Task {
    /// `None` for the flow that a CPU booted with.
    stack: Option<Stack>,
    /// Where the registers are saved while the task does not run.
    sp: Cell<u64>,
    entry: SpinLock<Option<Box<dyn FnOnce() + Send>>>,
    /// Some CPU runs on the stack, or has not let go of it yet.
    on_cpu: AtomicBool,
    /// Who pays for what it allocates.
    account: AtomicU32,
    /// What it was refused (see [`crate::frame::refusal`]).
    refused: AtomicU32,
}

// SAFETY: `sp` is only touched by the CPU that set `on_cpu`.
unsafe impl Sync for Task {}
// SAFETY: a stack may be continued on any CPU.
unsafe impl Send for Task {}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("stack", &self.stack)
            .finish_non_exhaustive()
    }
}

impl Task {
    /// A task that will run `entry` when first switched to, with interrupts on. `entry` must not
    /// return.
    ///
    /// # Errors
    /// [`OutOfMemory`] when there is no memory for the stack.
    pub fn new(entry: Box<dyn FnOnce() + Send>) -> Result<Arc<Task>, OutOfMemory> {
        let stack = Stack::new()?;
        // Six registers and the return address; what is left above is aligned as before a call.
        let sp = stack.top() - 9 * 8;
        let words: *mut [u64; 9] = core::ptr::with_exposed_provenance_mut(sp as usize);
        let start = (&raw const task_start).addr() as u64;
        // SAFETY: the stack is new and mapped; its last 72 bytes are nobody else's.
        unsafe { words.write([0, 0, 0, 0, 0, 0, start, 0, 0]) };
        heap::try_arc(Task {
            stack: Some(stack),
            sp: Cell::new(sp),
            entry: SpinLock::new(Some(entry)),
            on_cpu: AtomicBool::new(false),
            account: AtomicU32::new(AccountId::ROOT.to_raw()),
            refused: AtomicU32::new(0),
        })
    }

    /// The account that is charged for what it allocates.
    #[inline]
    pub(crate) fn account(&self) -> AccountId {
        AccountId::from_raw(self.account.load(Ordering::Relaxed))
    }

    /// Sets that; whoever does keeps the account open as long as the task may run.
    pub fn set_account(&self, account: AccountId) {
        self.account.store(account.to_raw(), Ordering::Relaxed);
    }

    /// The word of [`crate::frame::refusal`].
    pub(crate) fn refused(&self) -> &AtomicU32 {
        &self.refused
    }

    /// Turns the boot flow of this CPU into a task (the CPU's idle thread).
    #[must_use]
    pub fn adopt_current() -> Arc<Task> {
        // infallible: a CPU starts once
        let task = Arc::new(Task {
            stack: None,
            sp: Cell::new(0),
            entry: SpinLock::new(None),
            on_cpu: AtomicBool::new(true),
            account: AtomicU32::new(AccountId::ROOT.to_raw()),
            refused: AtomicU32::new(0),
        });
        percpu::here().current.set(Arc::into_raw(Arc::clone(&task)));
        task
    }

    /// Saves the running flow in its task and resumes `self`. Returns when something switches
    /// back. The reference is consumed: what is left on the stack of a task that never comes back would
    /// leak. Call with interrupts off. Waits until `self` has left the CPU it last ran on. User FPU state
    /// goes along. The machine keeps the running task alive.
    ///
    /// # Panics
    /// With interrupts on, in an RCU read section, and where no task runs yet.
    pub fn switch_to(self: Arc<Self>) {
        assert!(interrupt::are_off(), "a task switch with interrupts on");
        let area = percpu::here();
        let running = area.current.get();
        if core::ptr::eq(running, Arc::as_ptr(&self)) {
            return;
        }
        // SAFETY: `current` is a counted reference, which moves to `previous` below.
        let Some(me) = (unsafe { running.as_ref() }) else {
            panic!("a task switch before this CPU's flow was adopted");
        };
        rcu::quiescent();
        fpu::save_live(area);
        // User code may have changed the registers behind the kernel's back (see `bases`).
        area.bases.set(None);
        while self.on_cpu.swap(true, Ordering::Acquire) {
            tlb::poll();
            core::hint::spin_loop();
        }
        area.previous.set(running);
        let next_sp = self.sp.get();
        area.current.set(Arc::into_raw(self));
        // SAFETY: `on_cpu` makes this CPU the only one on the next stack; its `sp` was stored when it was
        // left, or is a new task's.
        unsafe { switch_stacks(me.sp.as_ptr(), next_sp) };
        let_go_of_previous();
    }
}

/// The end of the running task's stack; 0 for the flow that a CPU booted with.
pub(crate) fn running_stack_top() -> u64 {
    // SAFETY: a counted reference, which lasts while the task runs.
    let task = unsafe { percpu::here().current.get().as_ref() };
    task.and_then(|task| task.stack.as_ref())
        .map_or(0, Stack::top)
}

/// On the new stack: the previous task may run elsewhere from here on, or be freed.
fn let_go_of_previous() {
    let previous = percpu::here().previous.replace(core::ptr::null());
    if previous.is_null() {
        return;
    }
    // SAFETY: `switch_to` stored a counted reference.
    let previous = unsafe { Arc::from_raw(previous) };
    previous.on_cpu.store(false, Ordering::Release);
}

extern "C" fn run_new_task() -> ! {
    let_go_of_previous();
    // SAFETY: `switch_to` stored a counted reference to this task, which lasts while it runs.
    let entry =
        unsafe { percpu::here().current.get().as_ref() }.and_then(|task| task.entry.lock().take());
    turn_on();
    if let Some(entry) = entry {
        entry();
    }
    panic!("a kernel thread returned from its entry");
}
