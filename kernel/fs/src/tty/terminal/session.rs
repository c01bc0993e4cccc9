//! Whom a terminal belongs to: session, foreground group, and what they are signalled.
//!
//! Processes are asked and signalled with the terminal's state released.

use alloc::sync::Arc;

use abi::raw::general as raw;
use abi::{Errno, Result};

use super::Terminal;
use crate::job_control::{ControllingTerminal, PidRef, Terminal as Controlling, job_control};

const SIGHUP: u8 = 1;
const SIGCONT: u8 = 18;
const SIGTTIN: u8 = 21;
const SIGTTOU: u8 = 22;

fn signal_caller_group(signal: u8) {
    let processes = job_control();
    if let Some(group) = processes.group() {
        processes.signal_group(&group, signal);
    }
}

impl Terminal {
    /// The other end is gone: readers see the end, writers `EIO`, the session hears SIGHUP.
    pub fn hang_up(&self) {
        let mut state = self.state.lock();
        state.hung_up = true;
        let (session, foreground) = (state.session.take(), state.foreground.take());
        drop(state);
        self.input.wake_all();
        self.output.wake_all();
        if let Some(session) = session {
            let processes = job_control();
            processes.signal_session_leader(&session, SIGHUP);
            processes.signal_session_leader(&session, SIGCONT);
            if let Some(foreground) = foreground {
                processes.signal_group(&foreground, SIGHUP);
            }
            processes.disassociate(&session);
        }
    }

    fn is_background(&self) -> bool {
        let processes = job_control();
        let (session, group) = (processes.session(), processes.group());
        let state = self.state.lock();
        session.is_some()
            && state.session == session
            && state.foreground.is_some()
            && state.foreground != group
    }

    pub(super) fn check_background_read(&self) -> Result<()> {
        if !self.is_background() {
            return Ok(());
        }
        let processes = job_control();
        if processes.is_blocked_or_ignored(SIGTTIN) || processes.group_is_orphaned() {
            return Err(Errno::EIO);
        }
        signal_caller_group(SIGTTIN);
        Err(Errno::ERESTARTSYS)
    }

    pub(super) fn check_background_write(&self) -> Result<()> {
        if self.termios().has_local(raw::TOSTOP) {
            self.check_change()
        } else {
            Ok(())
        }
    }

    /// Whether the caller may change the terminal: not from the background, unless it does not
    /// mind SIGTTOU.
    ///
    /// # Errors
    /// `ERESTARTSYS` after SIGTTOU was sent; `EIO` in an orphaned group.
    pub fn check_change(&self) -> Result<()> {
        let processes = job_control();
        if !self.is_background() || processes.is_blocked_or_ignored(SIGTTOU) {
            return Ok(());
        }
        if processes.group_is_orphaned() {
            return Err(Errno::EIO);
        }
        signal_caller_group(SIGTTOU);
        Err(Errno::ERESTARTSYS)
    }

    /// Makes it the controlling terminal of the caller's session (TIOCSCTTY).
    ///
    /// # Errors
    /// `EPERM` when the caller leads no session, has a terminal, or another session has this one.
    pub fn acquire(self: &Arc<Self>) -> Result<()> {
        let processes = job_control();
        let (session, group) = (processes.session(), processes.group());
        let is_own = session.is_some() && self.state.lock().session == session;
        if is_own && processes.is_session_leader() {
            return Ok(());
        }
        if !processes.is_session_leader() || processes.terminal().is_some() {
            return Err(Errno::EPERM);
        }
        let mut state = self.state.lock();
        if state.session.is_some() {
            return Err(Errno::EPERM);
        }
        state.session = session;
        state.foreground = group;
        drop(state);
        let controlling: Controlling = self.clone();
        processes
            .set_terminal(Some(controlling))
            .inspect_err(|_| self.forget_session())
    }

    /// Gives up being the controlling terminal (TIOCNOTTY).
    ///
    /// # Errors
    /// `ENOTTY` when it is not that of the caller's session.
    pub fn release(&self) -> Result<()> {
        let processes = job_control();
        if !self.controls_caller() {
            return Err(Errno::ENOTTY);
        }
        if processes.is_session_leader() {
            processes.set_terminal(None)?;
            self.session_ended();
        }
        Ok(())
    }

    /// Whether it is the controlling terminal of the caller.
    #[must_use]
    pub fn controls_caller(&self) -> bool {
        let session = job_control().session();
        session.is_some() && self.state.lock().session == session
    }

    /// The session it controls, if there is one.
    #[must_use]
    pub fn session(&self) -> Option<PidRef> {
        self.state.lock().session.clone()
    }

    /// Makes `group` the foreground process group (TIOCSPGRP).
    ///
    /// # Errors
    /// `ENOTTY` when it does not control the caller, `EPERM` for a group of another session, `ESRCH`.
    pub fn set_foreground(&self, group: i32) -> Result<()> {
        self.check_change()?;
        if !self.controls_caller() {
            return Err(Errno::ENOTTY);
        }
        if group <= 0 {
            return Err(Errno::EINVAL);
        }
        let processes = job_control();
        let group = processes.find(group).ok_or(Errno::ESRCH)?;
        let session = processes.session_of_group(&group).ok_or(Errno::ESRCH)?;
        let mut state = self.state.lock();
        if state.session.as_ref() != Some(&session) {
            return Err(Errno::EPERM);
        }
        state.foreground = Some(group);
        Ok(())
    }

    fn forget_session(&self) {
        let mut state = self.state.lock();
        (state.session, state.foreground) = (None, None);
    }
}

impl ControllingTerminal for Terminal {
    fn device(&self) -> (u32, u32) {
        (self.device.major, self.device.minor)
    }

    fn foreground_group(&self) -> Option<PidRef> {
        self.state.lock().foreground.clone()
    }

    fn session_ended(&self) {
        let foreground = self.state.lock().foreground.take();
        self.forget_session();
        if let Some(foreground) = foreground {
            job_control().signal_group(&foreground, SIGHUP);
            job_control().signal_group(&foreground, SIGCONT);
        }
    }
}
