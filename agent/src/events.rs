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

#[cfg(test)]
mod tests {
    use crate::pod::{Container, Exit, Process};

    use super::*;

    fn pod() -> Pod {
        let pod = Pod::new(Err(String::new()));
        let inserted = pod.lock().insert("one", Container::default());
        inserted.expect("no other");
        pod
    }

    fn end(pod: &Pod, exec: &str, number: u64) {
        let exit = Exit {
            code: 3,
            signal: 0,
            at_ns: 1,
            number,
        };
        let process = Process {
            exit: Some(exit),
            ..Default::default()
        };
        let mut table = pod.lock();
        let container = table.container_mut("one").expect("it is there");
        container.processes.insert(exec.to_owned(), process);
    }

    fn kill(pod: &Pod, kills: u64) {
        let mut table = pod.lock();
        table.container_mut("one").expect("it is there").oom_kills += kills;
    }

    fn names(events: &[Event]) -> Vec<&str> {
        let mut names = Vec::new();
        for event in events {
            names.push(match event.kind.enum_value() {
                Ok(Kind::KIND_OOM) => "oom",
                _ => &*event.exec_id,
            });
        }
        names
    }

    #[test]
    fn each_stream_tells_everything_once_and_in_order() {
        let pod = pod();
        // In another order than their names have.
        end(&pod, "b", 1);
        end(&pod, "a", 2);
        kill(&pod, 3);
        let mut first = Told::default();
        assert_eq!(names(&first.next(&pod)), ["oom", "b", "a"]);
        assert!(first.next(&pod).is_empty());
        end(&pod, "", 3);
        let events = first.next(&pod);
        assert_eq!(names(&events), [""]);
        let event = &events[0];
        let seen = (&*event.container_id, event.exit_code, event.at_ns);
        assert_eq!(seen, ("one", 3, 1));
        // One that comes late misses nothing that has not been deleted.
        assert_eq!(names(&Told::default().next(&pod)), ["oom", "b", "a", ""]);
        kill(&pod, 1);
        assert_eq!(names(&first.next(&pod)), ["oom"]);
    }

    #[test]
    fn a_container_of_the_same_name_is_another_one() {
        let pod = pod();
        kill(&pod, 2);
        let mut told = Told::default();
        assert_eq!(told.next(&pod).len(), 1);
        pod.lock().remove("one");
        assert!(told.next(&pod).is_empty());
        let again = pod.lock().insert("one", Container::default());
        again.expect("no other");
        kill(&pod, 1);
        assert_eq!(told.next(&pod).len(), 1);
    }
}
