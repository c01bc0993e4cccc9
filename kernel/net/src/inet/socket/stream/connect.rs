//! bind(2), listen(2), accept(2), connect(2), shutdown(2) of TCP sockets.

use alloc::sync::Arc;

use abi::{Errno, Result};
use collections::try_arc;
use sched::WaitQueue;

use super::StreamSocket;
use crate::address::Address;
use crate::inet::address::{to_bind, to_reach};
use crate::inet::ip::{Endpoint, Ip};
use crate::inet::ports::Binding;
use crate::inet::slab::Id;
use crate::inet::socket::check_port;
use crate::inet::stack::Stack;
use crate::inet::tcp::{Link, Listener, Pair, State, Switch};
use crate::options::end_of_wait;
use crate::socket::{Requester, Shutdown};

impl StreamSocket {
    pub(super) fn bind_to(&self, address: &Address, requester: &Requester<'_>) -> Result<()> {
        let common = &self.common;
        let credentials = requester.caller.credentials;
        common.namespace.look(|stack| {
            let tcb = stack.tcp.get(common.id).ok_or(Errno::EBADF)?;
            let (is_v6_only, state, port) = (tcb.is_v6_only, tcb.state, tcb.pair.local.port);
            let local = to_bind(address, common.is_v6, is_v6_only)?;
            if !stack.may_bind(local.ip) {
                return Err(Errno::EADDRNOTAVAIL);
            }
            check_port(local.port, &stack.settings, &common.namespace, credentials)?;
            if state != State::Closed || port != 0 {
                return Err(Errno::EINVAL);
            }
            let binding = self.common.binding(local.ip, is_v6_only, true);
            let port = take_port(stack, common.id, local.port, binding)?;
            if let Some(tcb) = stack.tcp.get_mut(common.id) {
                tcb.pair.local = Endpoint::new(local.ip, port);
                tcb.has_own_ip = !local.ip.is_any();
                tcb.has_own_port = true;
            }
            Ok(())
        })?
    }

    pub(in crate::inet) fn start_listening(&self, backlog: usize) -> Result<()> {
        let common = &self.common;
        common.namespace.look(|stack| {
            let backlog = backlog.min(stack.settings.somaxconn as usize);
            let tcb = stack.tcp.get_mut(common.id).ok_or(Errno::EBADF)?;
            if let Some(listener) = &mut tcb.listener {
                listener.backlog = backlog;
                return Ok(());
            }
            if tcb.state != State::Closed || tcb.link != Link::Unconnected {
                return Err(Errno::EINVAL);
            }
            let (local, is_v6_only) = (tcb.pair.local, tcb.is_v6_only);
            let listening = Binding {
                is_listening: true,
                ..self.common.binding(local.ip, is_v6_only, true)
            };
            let port = match local.port {
                0 => take_port(stack, common.id, 0, listening)?,
                port if stack.tcp_ports.conflicts(port, &listening, Some(common.id)) => {
                    return Err(Errno::EADDRINUSE);
                }
                port => port,
            };
            if let Some(binding) = stack.tcp_ports.get_mut(port, common.id) {
                binding.is_listening = true;
            }
            let tcb = stack.tcp.get_mut(common.id).ok_or(Errno::EBADF)?;
            tcb.pair.local.port = port;
            tcb.listener = Some(Listener {
                backlog,
                ..Listener::default()
            });
            tcb.state = State::Listen;
            tcb.error = None;
            Ok(())
        })?
    }

    pub(super) fn take_connection(&self, nonblocking: bool) -> Result<Arc<StreamSocket>> {
        let common = &self.common;
        // Made before, as what is taken could not be put back.
        let notice = try_arc(WaitQueue::new())?;
        let deadline = common.options.receive_deadline();
        let look = || {
            let taken = common.namespace.look(|stack| {
                let is_listening = stack
                    .tcp
                    .get(common.id)
                    .is_some_and(|tcb| tcb.listener.is_some());
                if !is_listening {
                    return Some(Err(Errno::EINVAL));
                }
                match stack.take_ready(common.id) {
                    Some(id) => {
                        if let Some(tcb) = stack.tcp.get_mut(id) {
                            tcb.notice = Some(notice.clone());
                        }
                        Some(Ok(id))
                    }
                    None => nonblocking.then_some(Err(Errno::EAGAIN)),
                }
            });
            taken.unwrap_or_else(|errno| Some(Err(errno)))
        };
        let waited = common.notice.wait_interruptible_alone(deadline, look);
        let id = waited.map_err(|errno| end_of_wait(errno, deadline))??;
        self.accepted(id, notice)
    }

    pub(in crate::inet) fn connect_to(&self, address: &Address, nonblocking: bool) -> Result<()> {
        if matches!(address, Address::Unspecified) {
            return self.disconnect();
        }
        let begun = self
            .common
            .namespace
            .run(|stack, now| self.begin_connecting(stack, now, address))??;
        if nonblocking && begun {
            return Err(Errno::EINPROGRESS);
        }
        let deadline = self.common.options.send_deadline();
        let look = || {
            let looked = self.look(|tcb| match tcb.state {
                State::SynSent | State::SynReceived => nonblocking.then_some(Err(Errno::EALREADY)),
                State::Closed if tcb.link == Link::Connecting => {
                    tcb.link = Link::Unconnected;
                    Some(Err(tcb.error.take().unwrap_or(Errno::ECONNABORTED)))
                }
                _ => {
                    tcb.link = Link::Connected;
                    Some(Ok(()))
                }
            });
            looked.unwrap_or_else(|errno| Some(Err(errno)))
        };
        let waited = self
            .common
            .notice
            .wait_interruptible_deadline(deadline, look);
        let connected = waited.map_err(|errno| match errno {
            Errno::ETIMEDOUT if begun => Errno::EINPROGRESS,
            Errno::ETIMEDOUT => Errno::EALREADY,
            other => end_of_wait(other, deadline),
        })?;
        if connected.is_err() {
            self.forget_ends()?;
        }
        connected
    }

    /// Sends the SYN, unless that has been done: whether it did.
    fn begin_connecting(&self, stack: &mut Stack, now: u64, address: &Address) -> Result<bool> {
        let id = self.common.id;
        let tcb = stack.tcp.get(id).ok_or(Errno::EBADF)?;
        match tcb.link {
            Link::Connected => return Err(Errno::EISCONN),
            Link::Connecting => return Ok(false),
            Link::Unconnected if tcb.state != State::Closed => return Err(Errno::EISCONN),
            Link::Unconnected => {}
        }
        let remote = to_reach(address, self.common.is_v6, tcb.is_v6_only, false)?;
        if remote.ip.is_multicast() || stack.is_broadcast(remote.ip) {
            return Err(Errno::ENETUNREACH);
        }
        let (local, is_v6_only, maximum) = (tcb.pair.local, tcb.is_v6_only, tcb.own_mss);
        if tcb.has_own_ip && local.ip.is_v4() != remote.ip.is_v4() {
            return Err(if self.common.is_v6 {
                Errno::EINVAL
            } else {
                Errno::ENETUNREACH
            });
        }
        let source = stack.source_for(remote.ip)?;
        let ip = if tcb.has_own_ip { local.ip } else { source };
        let port = match local.port {
            0 => stack.connecting_port(ip, remote)?,
            port => port,
        };
        let pair = Pair {
            local: Endpoint::new(ip, port),
            remote,
        };
        stack.add_pair(pair, id)?;
        if local.port == 0
            && let Err(errno) =
                stack
                    .tcp_ports
                    .insert(port, id, self.common.binding(ip, is_v6_only, false))
        {
            stack.forget_ends(&pair);
            return Err(errno);
        }
        let mss = stack.mss(remote.ip);
        let first = stack.first_number();
        stack.counters.active_opens += 1;
        stack.with_tcb(id, now, |tcb, net| {
            tcb.pair = pair;
            tcb.link = Link::Connecting;
            tcb.error = None;
            tcb.own_mss = if maximum == 0 { mss } else { mss.min(maximum) };
            tcb.connect(first, net);
        });
        Ok(true)
    }

    /// After a connection that did not come about: what the program has not chosen is free again.
    fn forget_ends(&self) -> Result<()> {
        let id = self.common.id;
        self.common.namespace.look(|stack| {
            stack.forget_pair(id);
            let Some(tcb) = stack.tcp.get_mut(id) else {
                return;
            };
            let port = tcb.pair.local.port;
            let over =
                Switch::DONE | Switch::GOT_FIN | Switch::ENDS_SENDING | Switch::ENDS_RECEIVING;
            tcb.switches.remove(over);
            tcb.pair.remote = Endpoint::new(Ip::ANY4, 0);
            if !tcb.has_own_ip {
                tcb.pair.local.ip = if tcb.is_v6 { Ip::ANY6 } else { Ip::ANY4 };
            }
            if !tcb.has_own_port {
                tcb.pair.local.port = 0;
                stack.tcp_ports.remove(port, id);
            }
        })
    }

    /// connect(2) to `AF_UNSPEC`: ends the connection, and lets the socket be used again.
    fn disconnect(&self) -> Result<()> {
        let id = self.common.id;
        self.common.namespace.run(|stack, now| {
            if stack.tcp.get(id).is_some_and(|tcb| tcb.listener.is_some()) {
                stack.end_listening(id, now);
            }
            stack.with_tcb(id, now, |tcb, net| {
                tcb.abort(net);
                tcb.link = Link::Unconnected;
                tcb.error = None;
            });
        })?;
        self.forget_ends()
    }

    pub(super) fn shut(&self, how: Shutdown) -> Result<()> {
        let id = self.common.id;
        self.common.namespace.run(|stack, now| {
            let tcb = stack.tcp.get(id).ok_or(Errno::EBADF)?;
            match tcb.state {
                State::Closed | State::TimeWait => return Err(Errno::ENOTCONN),
                State::Listen => {
                    if how.receive {
                        let notice = tcb.notice.clone();
                        stack.end_listening(id, now);
                        if let Some(notice) = notice {
                            notice.wake_all();
                        }
                    }
                    return Ok(());
                }
                _ => {}
            }
            stack.with_tcb(id, now, |tcb, net| {
                if tcb.state == State::SynSent {
                    tcb.abort(net);
                    tcb.link = Link::Unconnected;
                    return;
                }
                if how.receive {
                    tcb.switches.insert(Switch::ENDS_RECEIVING);
                }
                if how.send {
                    tcb.finish(net);
                }
                net.wake(tcb.notice.clone().as_ref());
            });
            Ok(())
        })?
    }
}

/// Gives `id` the port, or one that is free for 0.
fn take_port(stack: &mut Stack, id: Id, port: u16, binding: Binding) -> Result<u16> {
    let port = match port {
        0 => stack.free_port(&stack.tcp_ports, &binding)?,
        port if stack.tcp_ports.conflicts(port, &binding, None) => return Err(Errno::EADDRINUSE),
        port => port,
    };
    stack.tcp_ports.insert(port, id, binding)?;
    Ok(port)
}
