//! `nacre run`, from its arguments to an exit code.
//!
//! Whatever goes wrong, the machine is dropped on the way out and its VMM with it, and the root
//! file system was only ever shared, never mounted here: nothing stays.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use agent_protocol::{CreateContainerRequest, Mount, SHARED_TAG, StartProcessRequest, User};
use host_machine::printing::tell;
use host_machine::{
    Disk, LogTarget, Machine, MachineError, MachineKind, MachineSpec, Memory, Share, VmmProcess,
};
use host_net::Plan;
use image::boot;
use pod::cgroup::{Limits, Quota, Wish};
use pod::state::{PodDir, Record, StateError, StateRoot};
use pod::{Hub, Pod, PodServer};

use super::RunError;
use super::args::RunArgs;
use super::before_boot;
use super::names;
use super::network;
use super::session::{Force, HANG_UP_GRACE, LocalStdio, Session};
use super::signals::Caught;
use super::terminal::RawTerminal;
use super::timings::Marks;
use super::volume::{self, Volume};

/// The container's name within its pod.
const CONTAINER: &str = "run";
/// What a program finds in `PATH` unless told otherwise.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the program and gives the code to exit with.
pub(super) fn run(root: &StateRoot, args: &RunArgs) -> Result<u8, RunError> {
    check_rootfs(args)?;
    args.volumes.iter().try_for_each(Volume::check)?;
    if args.tty && args.interactive && !rustix::termios::isatty(io::stdin()) {
        return Err(RunError::NotATerminal);
    }
    let mut spec = spec(args)?;
    let request = process_request(args)?;
    before_boot::check(args, &request)?;
    before_boot::warn_of_memory(args.memory.0);
    let caught = Caught::start()?;
    // The last to go: until then the pod has its name.
    let mut dir = claim(root, args)?;
    give_cgroup(&mut dir, args, &mut spec)?;
    let mut network = network::make(args)?;
    if let Some(network) = &mut network {
        spec.nets = std::mem::take(&mut network.nets);
    }
    let hub = Hub::create(&dir)?;
    let mut marks = Marks::new(args.timings);
    let aborted = |error| {
        caught
            .aborted()
            .map_or(error, |signal| RunError::Interrupted { signal })
    };
    let place = Place {
        dir: &dir,
        hub: &hub,
        plan: network.as_ref().map(|network| &network.plan),
    };
    let mut attempt = |spec: &MachineSpec| {
        let machine = VmmProcess::start(spec).map_err(|error| aborted(error.into()))?;
        let machine: Arc<dyn Machine> = Arc::new(machine);
        caught.ends(&machine);
        marks.note("VMM ready");
        let outcome = run_in(&machine, place, args, request.clone(), &caught, &mut marks);
        // Threads may still hold the machine; it is to be gone when this process is.
        machine.kill();
        Ok::<_, RunError>((machine, outcome))
    };
    let (mut machine, mut outcome) = attempt(&spec)?;
    if args.machine.is_none() && is_of_unfit_kvm(&outcome) {
        tell(format_args!("nacre: {}", MachineKind::notice_of_change()));
        spec.kind = MachineKind::Qemu;
        dir.fit_leaf(&spec)?;
        (machine, outcome) = attempt(&spec)?;
    }
    marks.note("microVM gone");
    if args.timings {
        // As in `tell`: what was measured is no reason to lose the exit code.
        let _ = write!(io::stderr(), "{}", marks.table(&machine.timings()));
    }
    outcome.map_err(aborted)
}

/// Whether the microVM has ended before anything ran in it, for want of a KVM that runs kernels.
fn is_of_unfit_kvm(outcome: &Result<u8, RunError>) -> bool {
    matches!(outcome, Err(RunError::Pod(error)) if error.is_of_unfit_kvm())
}

/// Where others find the pod, and it them.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    dir: &'a PodDir,
    hub: &'a Hub,
    /// What the guest does with its network, if it has one.
    plan: Option<&'a Plan>,
}

/// Runs the program in a machine that has started, and powers that off.
fn run_in(
    machine: &Arc<dyn Machine>,
    place: Place<'_>,
    args: &RunArgs,
    request: StartProcessRequest,
    caught: &Caught,
    marks: &mut Marks,
) -> Result<u8, RunError> {
    // Who waits for the one process needs no events.
    let observer = place.hub.observer(Arc::new(|_| {}));
    let pod = Pod::start(Arc::clone(machine), observer)?
        .with_log(Arc::clone(place.hub.log()))
        .with_memory(args.memory.0);
    let pod = Arc::new(pod);
    marks.count("agent answered", &**machine);
    volume::attach(&args.volumes, &**machine)?;
    let mut create = container_request(&args.volumes);
    if let Some(plan) = place.plan {
        pod.configure_network(plan)?;
        create.mounts.extend(resolv_conf(plan));
    }
    let container = pod.create_container(&create, request)?;
    marks.count("container mounted", &**machine);
    // Until the machine is off: who waits for a program in it hears how it ended.
    let _server = PodServer::start(
        place.dir,
        place.hub,
        Arc::clone(&pod),
        Arc::clone(&container),
    )?;
    let stdio = local_stdio(args.interactive)?;
    // Before the program starts, so that it never sees a half-cooked key.
    let raw = (args.tty && args.interactive)
        .then(|| RawTerminal::enter(io::stdin()))
        .transpose()
        .map_err(|_| RunError::NotATerminal)?;
    let forced = Arc::new(AtomicU8::new(0));
    let (signals, force) = (caught.forward(), force(machine, &forced));
    let session = Session::start(&container, stdio, signals, force, HANG_UP_GRACE)?;
    marks.count("program runs", &**machine);
    let exit = session.wait();
    drop(raw);
    if forced.load(Ordering::Acquire) != 0 {
        return Err(RunError::Interrupted {
            signal: forced.load(Ordering::Acquire),
        });
    }
    // Lost output is no reason to lose what the program wrote to files.
    if !matches!(exit, Err(RunError::Lost(_))) {
        marks.count("program ended", &**machine);
        if let Err(error) = pod.power_off() {
            tell(format_args!("nacre: {error}"));
        }
    }
    exit.map(|exit| u8::try_from(exit.status).unwrap_or(u8::MAX))
}

/// Gives the machine a cgroup of the host's, where there is one.
fn give_cgroup(dir: &mut PodDir, args: &RunArgs, spec: &mut MachineSpec) -> Result<(), StateError> {
    let limits = Limits {
        cpu: args.cpus.map(Quota::of_cpus),
        ..Limits::of(spec)
    };
    let wish = Wish {
        path: None,
        needs: None,
    };
    dir.make_leaf(wish, &limits)?;
    spec.leaf = dir.leaf().map(|leaf| leaf.machine());
    Ok(())
}

/// What ends the microVM when the guest cannot be asked any more.
fn force(machine: &Arc<dyn Machine>, forced: &Arc<AtomicU8>) -> Force {
    let (machine, forced) = (Arc::clone(machine), Arc::clone(forced));
    Arc::new(move |signal| {
        forced.store(signal, Ordering::Release);
        machine.kill();
    })
}

/// Takes the name that was given, or one that nobody has.
fn claim(root: &StateRoot, args: &RunArgs) -> Result<PodDir, StateError> {
    let record = |name: &str| Record {
        command: args.program.clone(),
        root: args.rootfs.clone(),
        ..Record::new(names::NAMESPACE, name, "nacre run")
    };
    if let Some(name) = &args.name {
        return root.claim(&record(name));
    }
    names::any(|name| root.claim(&record(name)))
}

fn check_rootfs(args: &RunArgs) -> Result<(), RunError> {
    let path = &args.rootfs;
    let metadata = std::fs::metadata(path).map_err(|source| RunError::Rootfs {
        path: path.clone(),
        source,
    })?;
    if metadata.is_dir() {
        Ok(())
    } else {
        Err(RunError::NotADirectory { path: path.clone() })
    }
}

fn spec(args: &RunArgs) -> Result<MachineSpec, RunError> {
    let (kernel, initramfs) = image_files(args)?;
    // The kernel first: where it is not, an archive beside it is not either.
    std::fs::metadata(&kernel).map_err(|source| MachineError::Open {
        what: "guest kernel",
        path: kernel.clone(),
        source,
    })?;
    boot::check_archive(&initramfs)?;
    let mut spec = MachineSpec::new(kernel, initramfs);
    spec.cpus = args.cpus.unwrap_or(1);
    spec.memory = Memory::fixed(args.memory.0);
    spec.shares = vec![Share {
        tag: SHARED_TAG.to_owned(),
        dir: args.rootfs.clone(),
    }];
    let disks = args.disk.iter().map(|disk| Disk {
        file: disk.file.clone(),
        is_read_only: disk.is_read_only,
    });
    spec.disks = disks.collect();
    let (kind, notice) = MachineKind::choose(args.machine.as_deref())?;
    if let Some(notice) = notice {
        tell(format_args!("nacre: {notice}"));
    }
    spec.kind = kind;
    spec.counts_instructions = args.timings;
    spec.log = args.log.clone().map_or(LogTarget::Discard, LogTarget::File);
    Ok(spec)
}

/// The files as named; what is not named is found, the archive beside a named kernel.
fn image_files(args: &RunArgs) -> Result<(PathBuf, PathBuf), RunError> {
    match (&args.kernel, &args.initramfs) {
        (Some(kernel), Some(initramfs)) => Ok((kernel.clone(), initramfs.clone())),
        (Some(kernel), None) => Ok((kernel.clone(), kernel.with_file_name("initramfs.img"))),
        (None, named) => {
            let found = boot::locate()?;
            Ok((found.kernel, named.clone().unwrap_or(found.initramfs)))
        }
    }
}

fn local_stdio(interactive: bool) -> Result<LocalStdio, RunError> {
    use std::os::fd::AsFd;
    let host = |source| RunError::Host {
        what: "duplicate stdio",
        source,
    };
    let stdin = io::stdin();
    Ok(LocalStdio {
        stdin: interactive
            .then(|| stdin.as_fd().try_clone_to_owned())
            .transpose()
            .map_err(host)?,
        stdout: io::stdout().as_fd().try_clone_to_owned().map_err(host)?,
        stderr: io::stderr().as_fd().try_clone_to_owned().map_err(host)?,
    })
}

/// The shared directory with what every Linux program expects mounted in it.
fn container_request(volumes: &[Volume]) -> CreateContainerRequest {
    let mount = |destination: &str, kind: &str, options: &[&str], optional| Mount {
        destination: destination.to_owned(),
        type_: kind.to_owned(),
        source: kind.to_owned(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        optional,
        ..Default::default()
    };
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    let mut request = CreateContainerRequest {
        id: CONTAINER.to_owned(),
        mounts: vec![
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"], false),
            mount(
                "/dev",
                "tmpfs",
                &["nosuid", "strictatime", "mode=755", "size=65536k"],
                false,
            ),
            mount("/dev/pts", "devpts", &pts, true),
            mount(
                "/dev/shm",
                "tmpfs",
                &["nosuid", "noexec", "nodev", "mode=1777"],
                false,
            ),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"], true),
        ],
        ..Default::default()
    };
    request.mounts.extend(volume::mounts(volumes));
    request
}

/// The pod's name servers, over what the root file system says of others.
fn resolv_conf(plan: &Plan) -> Option<Mount> {
    let says_any = !plan.name_servers.is_empty() || !plan.search_domains.is_empty();
    says_any.then(|| Mount {
        destination: "/etc/resolv.conf".to_owned(),
        type_: "resolv".to_owned(),
        ..Default::default()
    })
}

fn process_request(args: &RunArgs) -> Result<StartProcessRequest, RunError> {
    let mut env = vec![PATH.to_owned()];
    if args.tty {
        let kind = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        env.push(format!("TERM={kind}"));
    }
    for given in &args.env {
        set_variable(&mut env, given)?;
    }
    let user = User {
        name: args.user.clone(),
        // Root's own group, as a login gives it; not read when there is a name.
        additional_gids: vec![0],
        ..Default::default()
    };
    Ok(StartProcessRequest {
        container_id: CONTAINER.to_owned(),
        args: args.program.clone(),
        env,
        cwd: args.cwd.clone(),
        user: Some(user).into(),
        terminal: args.tty,
        ..Default::default()
    })
}

/// Sets `NAME=VALUE`, or `NAME` to its value here if it has one, in place of an earlier one.
pub(super) fn set_variable(env: &mut Vec<String>, given: &str) -> Result<(), RunError> {
    let (name, value) = match given.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (given, std::env::var(given).ok()),
    };
    if name.is_empty() {
        return Err(RunError::Variable {
            given: given.to_owned(),
        });
    }
    env.retain(|entry| entry.split_once('=').is_none_or(|(known, _)| known != name));
    env.extend(value.map(|value| format!("{name}={value}")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::set_variable;

    #[test]
    fn variables_replace_and_need_a_name() {
        let mut env = vec!["PATH=/bin".to_owned(), "A=1".to_owned()];
        set_variable(&mut env, "PATH=/x=y").expect("a variable");
        set_variable(&mut env, "NACRE_SURELY_NOT_SET").expect("nothing to set");
        assert_eq!(env, ["A=1", "PATH=/x=y"]);
        assert!(set_variable(&mut env, "=x").is_err());
    }
}
