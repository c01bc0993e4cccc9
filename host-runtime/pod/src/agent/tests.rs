//! A guest that says whatever it likes: the host refuses it in time, whatever it is.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_protocol::{Event, HelloResponse};
use protobuf::Message as _;

use host_machine::{Attachment, ExitReason, Machine, MachineError, Stats, Timings};

use super::{Agent, AgentError, ProcessExit, exit_of};

/// How long the host waits for a handshake here.
const BOUND: Duration = Duration::from_secs(20);

/// Leads to one stream.
#[derive(Debug)]
struct One(Mutex<Option<UnixStream>>);

impl Machine for One {
    fn connect(&self, port: u32, waited: Duration) -> Result<UnixStream, MachineError> {
        let stream = self.0.lock().expect("no panic").take();
        stream.ok_or(MachineError::Connect {
            port,
            waited,
            last: "taken".to_owned(),
        })
    }

    fn wait(&self, _: Option<Duration>) -> Option<ExitReason> {
        None
    }

    fn kill(&self) -> ExitReason {
        ExitReason::Stopped
    }

    fn pause(&self) -> Result<(), MachineError> {
        unreachable!("only connected to")
    }

    fn resume(&self) -> Result<(), MachineError> {
        unreachable!("only connected to")
    }

    fn stats(&self) -> Result<Stats, MachineError> {
        unreachable!("only connected to")
    }

    fn attach(&self, _: Attachment) -> Result<(), MachineError> {
        unreachable!("only connected to")
    }

    fn detach(&self, _: Attachment) -> Result<(), MachineError> {
        unreachable!("only connected to")
    }

    fn timings(&self) -> Timings {
        Timings::default()
    }

    fn pid(&self) -> u32 {
        0
    }
}

/// Connects to a guest that takes the greeting, answers with these bytes and hangs up.
fn connect_to(answer: Vec<u8>) -> Result<Agent, AgentError> {
    let (host, mut guest) = UnixStream::pair().expect("two sockets");
    let speaker = std::thread::spawn(move || {
        let mut greeting = [0; 4096];
        let _ = guest.read(&mut greeting);
        let _ = guest.write_all(&answer);
    });
    let agent = Agent::connect(Arc::new(One(Mutex::new(Some(host)))), BOUND);
    speaker.join().expect("a guest that spoke");
    agent
}

#[test]
fn no_answer_of_a_guest_is_believed_or_waited_for() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_le_bytes()
    };
    for round in 0..64_usize {
        // ttrpc's header: length, stream 1, a response; sometimes true, sometimes not.
        let body: Vec<u8> = (0..round % 40).flat_map(|_| next()).collect();
        let claimed = match round % 4 {
            0 => u32::from_le_bytes([next()[0], next()[0], next()[0], next()[0]]),
            _ => u32::try_from(body.len()).expect("short"),
        };
        let mut answer = claimed.to_be_bytes().to_vec();
        answer.extend([0, 0, 0, 1, if round % 3 == 0 { next()[0] } else { 2 }, 0]);
        answer.extend(body);
        if round % 5 == 0 {
            answer.truncate(usize::from(next()[0]) % answer.len());
        }
        match connect_to(answer.clone()) {
            Err(AgentError::NoAnswer { .. }) => panic!("waited for {answer:?}"),
            Ok(agent) => panic!("believed {answer:?}: {agent:?}"),
            Err(_) => {}
        }
    }
}

#[test]
fn ends_out_of_range_are_none() {
    let of = |exit_code, signal| {
        exit_of(&Event {
            exit_code,
            signal,
            ..Default::default()
        })
    };
    assert_eq!(of(255, 0), Some(ProcessExit::Code(255)));
    assert_eq!(of(1 << 30, 9), Some(ProcessExit::Signal(9)));
    for (exit_code, signal) in [(256, 0), (u32::MAX, 0), (0, 256), (0, u32::MAX)] {
        assert_eq!(of(exit_code, signal), None);
    }
    let huge = ProcessExit::Signal(255);
    assert_eq!(huge.shell_code(), 255);
}

#[test]
fn an_agent_of_another_version_is_told_apart() {
    // As protocol 1 and 2 answer: a message whose first field is the version.
    for version in [1, 2] {
        let hello = HelloResponse {
            protocol_version: version,
            ..Default::default()
        };
        let response = ttrpc::proto::Response {
            payload: hello.write_to_bytes().expect("a message"),
            ..Default::default()
        };
        let body = response.write_to_bytes().expect("a message");
        let mut answer = u32::try_from(body.len())
            .expect("short")
            .to_be_bytes()
            .to_vec();
        answer.extend([0, 0, 0, 1, 2, 0]);
        answer.extend(body);
        let said = connect_to(answer).expect_err("another version").to_string();
        let words = format!("speaks protocol version {version}, this program");
        assert!(said.contains(&words), "{said}");
    }
}
