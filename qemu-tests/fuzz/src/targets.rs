//! What is fed, and with which seeds: one function a format.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_protocol::{Event, HelloResponse, StartProcessRequest};
use anyhow::Context as _;
use bpf::{Instruction, Packet, Program, Source, Use, code};
use devices::console::{Console, ConsoleLog};
use devices::fs::Fs;
use devices::net::link::Link;
use devices::net::{Identity, Net};
use devices::rng::Rng;
use devices::testing::SharedMemory;
use devices::testing::fuzz::{fuzz_fuse, fuzz_queues, fuzz_registers, fuzz_vsock_packets};
use devices::vsock::Vsock;
use devices::{SharedDevice, VirtioDevice};
use host_machine::control::{self, Call, MAX_MESSAGE, Message, Request, ShareConfig, VmConfig};
use host_machine::{Memory, Stats};
use pod::agent::Agent;
use pod::state::{Record, StateRoot};
use pod::testing::LocalMachine;
use pod::wire::{ExecRequest, PodService, create_pod};
use protobuf::Message as _;
use rustix::event::epoll::{self, CreateFlags};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Something that reads bytes.
#[derive(Debug)]
pub(crate) struct Target {
    /// As the command line names it.
    pub(crate) name: &'static str,
    make: fn() -> anyhow::Result<Made>,
}

/// Feeds one input.
type Run = Box<dyn FnMut(&[u8])>;

/// A target that is ready.
pub(crate) struct Made {
    /// Inputs that are taken.
    pub(crate) seeds: Vec<Vec<u8>>,
    /// Feeds one.
    pub(crate) run: Run,
}

impl Target {
    /// Makes what it takes to feed it.
    pub(crate) fn make(&self) -> anyhow::Result<Made> {
        (self.make)().with_context(|| format!("cannot make what {} needs", self.name))
    }
}

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    target("agent", agent),
    target("archive", archive),
    target("bpf", bpf_programs),
    target("control", control),
    target("frames", frames),
    target("fuse", fuse),
    target("oci", oci_documents),
    target("pod", pod_requests),
    target("queues", queues),
    target("registers", registers),
    target("state", state),
    target("vsock", vsock),
];

const fn target(name: &'static str, make: fn() -> anyhow::Result<Made>) -> Target {
    Target { name, make }
}

fn made(seeds: Vec<Vec<u8>>, run: impl FnMut(&[u8]) + 'static) -> anyhow::Result<Made> {
    let run = Box::new(run);
    Ok(Made { seeds, run })
}

/// Whatever an agent answers to the greeting, and its other answers.
fn agent() -> anyhow::Result<Made> {
    let directory = tempfile::tempdir()?;
    let port = agent_protocol::RPC_PORT;
    let listener = UnixListener::bind(directory.path().join(format!("{port}.sock")))?;
    let (answers, to_give): (_, Receiver<Vec<u8>>) = channel();
    std::thread::spawn(move || {
        for answer in to_give {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            let mut greeting = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut greeting);
            let _ = std::io::Write::write_all(&mut stream, &answer);
        }
    });
    let hello = HelloResponse {
        protocol_version: agent_protocol::PROTOCOL_VERSION,
        agent_version: "1".to_owned(),
        ..Default::default()
    };
    let body = hello.write_to_bytes()?;
    let length = u32::try_from(body.len())?;
    let framed = [&length.to_be_bytes()[..], &[0, 0, 0, 1, 2, 0], &body].concat();
    made(vec![framed, body], move |input| {
        let _ = HelloResponse::parse_from_bytes(input);
        let _ = Event::parse_from_bytes(input);
        let _ = StartProcessRequest::parse_from_bytes(input);
        if answers.send(input.to_vec()).is_ok() {
            let machine = Arc::new(LocalMachine::new(directory.path()));
            let _ = Agent::connect(machine, Duration::from_secs(30));
        }
    })
}

fn archive() -> anyhow::Result<Made> {
    let mut builder = initramfs::build::Builder::new();
    builder.directory("bin", 0o755)?;
    builder.file("bin/agent", 0o755, vec![7; 5000])?;
    builder.symlink("init", "bin/agent")?;
    let image = builder.build()?;
    // An archive is read in place, at the start of a page.
    let mut space = vec![0_u8; 256 * 1024];
    made(vec![image.to_vec()], move |input| {
        let start = space.as_ptr().align_offset(4096);
        let place = &mut space[start..start + input.len()];
        place.copy_from_slice(input);
        if let Ok(archive) = initramfs::Archive::new(place) {
            for entry in archive.entries() {
                let _ = (
                    entry.name(),
                    entry.data(),
                    entry.target(),
                    entry.parent().index(),
                );
            }
            let _ = archive.lookup("bin/agent");
        }
    })
}

/// Programs of filters, for packets and for calls: what is let through runs to its end and reads nothing but its input.
fn bpf_programs() -> anyhow::Result<Made> {
    let by_number = [
        Instruction::new(code::LD | code::W | code::ABS, 0),
        Instruction::jump(code::JMP | code::JGE | code::K, 39, 2, 0),
        Instruction::new(code::ST, 3),
        Instruction::new(code::LDX | code::MEM, 3),
        Instruction::new(code::ALU | code::DIV | code::X, 0),
        Instruction::new(code::RET | code::A, 0),
    ];
    let by_header = [
        Instruction::new(code::LDX | code::B | code::MSH, 14),
        Instruction::new(code::LD | code::H | code::IND, 16),
        Instruction::jump(code::JMP | code::JSET | code::X, 0, 0, 1),
        Instruction::new(code::RET | code::K, 65535),
        Instruction::new(code::RET | code::K, 0),
    ];
    let seeds = vec![by_number.as_bytes().to_vec(), by_header.as_bytes().to_vec()];
    made(seeds, |input| {
        let size = size_of::<Instruction>();
        let instructions: Vec<_> = input
            .chunks_exact(size)
            .filter_map(|bytes| Instruction::read_from_bytes(bytes).ok())
            .collect();
        if let Ok(program) = Program::new(&instructions, Use::Packets) {
            let _ = program.run(&Packet(input));
        }
        if let Ok(program) = Program::new(&instructions, Use::SystemCalls) {
            assert!(
                program.run(&MadeUpCall).is_some(),
                "it reads beyond the call"
            );
        }
    })
}

/// A call, which has whole words alone.
struct MadeUpCall;

impl Source for MadeUpCall {
    fn word(&self, at: u32) -> Option<u32> {
        (at < self.len() && at.is_multiple_of(4)).then_some(at ^ 0x27)
    }

    fn half(&self, _at: u32) -> Option<u16> {
        None
    }

    fn byte(&self, _at: u32) -> Option<u8> {
        None
    }

    fn len(&self) -> u32 {
        64
    }
}

fn control() -> anyhow::Result<Made> {
    let (ours, theirs) = UnixDatagram::pair()?;
    let calls = [
        Request::Start(VmConfig {
            kernel: "/kernel".to_owned(),
            initramfs: "/archive".to_owned(),
            shares: vec![ShareConfig {
                tag: "root".to_owned(),
                path: "/root".to_owned(),
            }],
            disks: vec!["/disk.img".to_owned()],
            nets: Vec::new(),
            cpus: 2,
            memory: Memory::fixed(256 << 20),
            cmdline: vec!["quiet".to_owned()],
            counts_instructions: false,
        }),
        Request::Connect { port: 1024 },
        Request::Stats,
    ];
    let mut seeds = Vec::new();
    for request in calls {
        let (version, id) = (control::VERSION, 7);
        seeds.push(serde_json::to_vec(&Call {
            version,
            id,
            request,
        })?);
    }
    let reply = Ok(control::Reply::Stats(Stats::default()));
    seeds.push(serde_json::to_vec(&Message::Answer { id: 7, reply })?);
    let mut buffer = vec![0; MAX_MESSAGE];
    made(seeds, move |input| {
        for _ in 0..2 {
            // A message of no bytes is what a side that has gone sends.
            if input.is_empty() || ours.send(input).is_err() {
                return;
            }
        }
        let _ = control::receive::<Call>(theirs.as_fd(), &mut buffer);
        let _ = control::receive::<Message>(theirs.as_fd(), &mut buffer);
    })
}

fn fuse() -> anyhow::Result<Made> {
    let folder = tempfile::tempdir()?;
    let root = folder.path().to_str().context("a plain name")?;
    fs::write(folder.path().join("file"), b"content")?;
    let mut device: Fs<SharedMemory> = Fs::new("root", root)?;
    device.open()?;
    let line = EventFd::new(EFD_NONBLOCK)?;
    // Requests of 256 bytes: first a greeting, then some of each kind.
    let mut greeting = vec![0; 256];
    greeting[4] = 26;
    greeting[40..48].copy_from_slice(&[7, 0, 0, 0, 31, 0, 0, 0]);
    let named: Vec<u8> = (0..52)
        .flat_map(|operation| {
            let mut request = vec![0; 256];
            (request[0], request[1], request[4], request[16]) = (1, 60, operation, 1);
            request[40..45].copy_from_slice(b"file\0");
            request
        })
        .collect();
    let seeds = vec![[greeting, named].concat()];
    made(seeds, move |input| {
        // The folder is there as long as the target is.
        let _ = folder.path();
        fuzz_fuse(&mut device, &line, input);
    })
}

fn oci_documents() -> anyhow::Result<Made> {
    let seeds = [
        include_str!("../../../host-runtime/oci/tests/specs/docker.json"),
        include_str!("../../../host-runtime/oci/tests/specs/cri.json"),
        r#"{"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/", "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]}"#,
    ];
    let bundle = tempfile::tempdir()?;
    let file = bundle.path().join("config.json");
    made(
        seeds.map(|seed| seed.as_bytes().to_vec()).to_vec(),
        move |input| {
            let _ = oci::read_exec("c1", "e1", input);
            if fs::write(&file, input).is_ok() {
                let _ = oci::read("c1", bundle.path());
            }
        },
    )
}

/// A pod's process that refuses every call, once it has read it.
#[derive(Debug)]
struct Refusing;

impl PodService for Refusing {}

/// What clients send to `pod.sock`: frames of ttrpc.
fn pod_requests() -> anyhow::Result<Made> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("pod.sock");
    let runtime = pod::runtime::handle()?;
    let entered = runtime.enter();
    let listener = tokio::net::UnixListener::bind(&path)?;
    let mut server = ttrpc::r#async::Server::new()
        .register_service(create_pod(Arc::new(Refusing)))
        .add_listener(listener.into());
    drop(entered);
    runtime.block_on(server.start())?;
    let exec = ExecRequest {
        args: vec!["sh".to_owned()],
        stdin_token: 7,
        ..Default::default()
    };
    let calls = [("State", Vec::new()), ("Exec", exec.write_to_bytes()?)];
    let mut seeds = Vec::new();
    for (method, payload) in calls {
        let request = ttrpc::proto::Request {
            service: "nacre.pod.v1.Pod".to_owned(),
            method: method.to_owned(),
            payload,
            ..Default::default()
        };
        let body = request.write_to_bytes()?;
        let length = u32::try_from(body.len())?;
        seeds.push([&length.to_be_bytes()[..], &[0, 0, 0, 1, 1, 0], &body].concat());
    }
    made(seeds, move |input| {
        // The server is there as long as the target is.
        let _ = &server;
        let Ok(mut client) = UnixStream::connect(&path) else {
            return;
        };
        let _ = client.set_read_timeout(Some(Duration::from_secs(30)));
        // One that has hung up takes no more.
        let _ = client.write_all(input);
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = client.read_to_end(&mut Vec::new());
    })
}

fn socket_device() -> anyhow::Result<Vsock<SharedMemory>> {
    let poller = epoll::create(CreateFlags::CLOEXEC)?;
    Ok(Vsock::new(3, Arc::new(poller), |_, _| ()))
}

/// Each queue has a page: 16 descriptors, at 0x402 how many entries the available ring has, and the entries.
/// What comes from the program that plays the network: a length, and as many bytes.
fn frames() -> anyhow::Result<Made> {
    let framed = |length: u32| [&length.to_be_bytes()[..], &vec![7; length as usize]].concat();
    let seed = [framed(60), framed(1514), framed(4000)].concat();
    let guest = buffers();
    made(vec![seed], move |input| {
        let Ok((mut host, link)) = UnixStream::pair() else {
            return;
        };
        let written = host
            .set_nonblocking(true)
            .and_then(|()| host.write_all(input));
        if let (Ok(()), Ok(mut net)) = (written, network_device(link)) {
            fuzz_queues(&mut net, &guest);
        }
    })
}

fn network_device(link: UnixStream) -> std::io::Result<Net<SharedMemory>> {
    let mac = [2, 0, 0, 0, 0, 1];
    let mtu = 1500;
    Net::new(
        Identity { mac, mtu },
        Link::stream(link.into())?,
        None,
        |_| {},
    )
}

fn queues() -> anyhow::Result<Made> {
    let null = fs::File::options().write(true).open("/dev/null")?;
    let mut console = Console::new(Arc::new(ConsoleLog::new(null)));
    let (mut rng, mut vsock) = (Rng::default(), socket_device()?);
    made(vec![buffers()], move |input| {
        let devices: [&mut dyn VirtioDevice<SharedMemory>; 3] =
            [&mut console, &mut rng, &mut vsock];
        for device in devices {
            fuzz_queues(device, input);
        }
        let Ok((mut host, link)) = UnixStream::pair() else {
            return;
        };
        let sent = host.write_all(&[&[0, 0, 0, 200][..], &[7; 200]].concat());
        if let (Ok(()), Ok(mut net)) = (sent, network_device(link)) {
            fuzz_queues(&mut net, input);
        }
    })
}

/// Guest memory with three queues of writable buffers.
fn buffers() -> Vec<u8> {
    let mut seed = vec![0; 0x4000];
    for queue in 1..=3 {
        let base = queue * 0x1000;
        for descriptor in 0..16 {
            let at = base + descriptor * 16;
            (seed[at + 1], seed[at + 8], seed[at + 12]) = (0x40, 64, 2);
        }
        seed[base + 0x402] = 16;
    }
    seed
}

/// Five bytes are a register and a value: a driver's first steps.
fn registers() -> anyhow::Result<Made> {
    let devices: [SharedDevice<SharedMemory>; 2] = [
        Arc::new(Mutex::new(Rng::default())),
        Arc::new(Mutex::new(socket_device()?)),
    ];
    let steps = [
        (0x70, 1),
        (0x70, 3),
        (0x14, 1),
        (0x24, 1),
        (0x20, 1),
        (0x70, 11),
        (0x30, 0),
        (0x38, 16),
        (0x80, 0),
        (0x90, 0),
        (0xa0, 0),
        (0x44, 1),
        (0x70, 15),
        (0x50, 0),
        (0x64, 1),
    ];
    let seed = steps
        .iter()
        .flat_map(|&(register, value)| [register, value, 0, 0, 0]);
    made(vec![seed.collect()], move |input| {
        for device in &devices {
            fuzz_registers(device, input);
        }
    })
}

fn state() -> anyhow::Result<Made> {
    let directory = tempfile::tempdir()?;
    let pod = directory.path().join("default/pod");
    let record = Record {
        command: vec!["sh".to_owned()],
        ..Record::new("default", "pod", "nacre run")
    };
    let seed = serde_json::to_vec(&record)?;
    let root = StateRoot::new(directory.path());
    made(vec![seed], move |input| {
        // Whoever looks cleans what nobody owns, so it is made anew each time.
        let is_made =
            fs::create_dir_all(&pod).and_then(|()| fs::write(pod.join("state.json"), input));
        if is_made.is_ok() {
            let _ = root.find(None, "pod");
            let _ = root.list();
        }
        let _ = directory.path();
    })
}

/// Packets: a header of 44 bytes, and as many as it says.
fn vsock() -> anyhow::Result<Made> {
    let mut seed = Vec::new();
    for operation in 1..=8 {
        let mut packet = vec![0; 44];
        (packet[0], packet[1], packet[2], packet[30]) = (1, 7, 64, operation);
        if operation == 5 {
            packet[24] = 10;
            packet.extend([9; 10]);
        }
        seed.extend(packet);
    }
    made(vec![seed], fuzz_vsock_packets)
}
