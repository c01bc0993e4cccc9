//! What the host is told without asking: the ends of processes, and that some died for want of memory.
//!
//! Each stream has read the table up to a number, so what happened before it began comes first, and nothing twice.

use std::collections::HashMap;

use agent_protocol::Event;
use agent_protocol::event::Kind;

use crate::pod::Pod;

/// How far one stream has come.
#[derive(Debug, Default)]
pub(crate) struct Told {
    exits: u64,
    oom_kills: HashMap<String, u64>,
}

impl Told {
    /// What there is to tell since the last time, in the order in which it happened.
    pub(crate) fn next(&mut self, pod: &Pod) -> Vec<Event> {
        let table = pod.lock();
        let mut exits = Vec::new();
        let mut events = Vec::new();
        for (id, container) in table.containers() {
            let told = self.oom_kills.entry(id.clone()).or_default();
            // One event for many of them, as for a group of memory.events.
            if container.oom_kills > *told {
                *told = container.oom_kills;
                events.push(event(Kind::KIND_OOM, id));
            }
            for (exec, process) in &container.processes {
                let Some(exit) = process.exit.filter(|exit| exit.number > self.exits) else {
                    continue;
                };
                let told = Event {
                    exec_id: exec.clone(),
                    exit_code: exit.code,
                    signal: exit.signal,
                    at_ns: exit.at_ns,
                    ..event(Kind::KIND_EXIT, id)
                };
                exits.push((exit.number, told));
            }
        }
        self.oom_kills
            .retain(|id, _| table.containers().any(|(known, _)| known == id));
        drop(table);
        exits.sort_by_key(|(number, _)| *number);
        if let Some((last, _)) = exits.last() {
            self.exits = *last;
        }
        events.extend(exits.into_iter().map(|(_, event)| event));
        events
    }
}

fn event(kind: Kind, container: &str) -> Event {
    Event {
        kind: kind.into(),
        container_id: container.to_owned(),
        ..Default::default()
    }
}
