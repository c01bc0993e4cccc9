//! What can be told before anything boots: that the user, the program or its interpreter is not in the root file system,
//! that the working directory is none, that the host has not so much memory.
//!
//! Only what is certain is told: what may be there once the guest has made its mounts is left to the guest.

use agent_protocol::StartProcessRequest;
use agent_protocol::root::{self, Root};
use agent_protocol::users;
use host_machine::printing::tell;

use super::RunError;
use super::args::RunArgs;

/// Looks into the root file system for what the process needs.
pub(super) fn check(args: &RunArgs, request: &StartProcessRequest) -> Result<(), RunError> {
    let Ok(root) = Root::open(args.rootfs.as_path()) else {
        // The share cannot be opened either, and that says why.
        return Ok(());
    };
    if let Some(user) = request.user.as_ref().filter(|user| !user.name.is_empty()) {
        let (passwd, group) = (root.database("passwd"), root.database("group"));
        users::by_name(&passwd, &group, &user.name).map_err(RunError::User)?;
    }
    if !request.cwd.starts_with('/') {
        return Err(RunError::RelativeCwd {
            path: request.cwd.clone(),
        });
    }
    let is_covered = |path: &str| args.volumes.iter().any(|volume| volume.has(path));
    if root.is_no_directory(&request.cwd) && !is_covered(&request.cwd) {
        return Err(RunError::Cwd {
            path: request.cwd.clone(),
        });
    }
    let program = request.args.first().map_or("", String::as_str);
    let programs = root::candidates(program, &request.env);
    if programs.iter().any(|program| is_covered(program)) {
        return Ok(());
    }
    match root.unrunnable(&programs, &request.cwd) {
        None => Ok(()),
        Some(why) => Err(RunError::Program {
            program: program.to_owned(),
            why,
        }),
    }
}

/// Warns of more memory than the host has: it is given out when it is used, so this may go well for a while.
pub(super) fn warn_of_memory(asked: u64) {
    let info = rustix::system::sysinfo();
    let host = info.totalram.saturating_mul(info.mem_unit.into());
    if asked > host {
        tell(format_args!(
            "nacre: warning: the guest may use {} MiB of memory and the host has {} MiB; give less by --memory",
            asked >> 20,
            host >> 20
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use agent_protocol::User;
    use clap::Parser;

    use super::super::args::{Args, Command};
    use super::{RunError, StartProcessRequest, check};

    fn checked(root: &Path, user: &str, cwd: &str, program: &str) -> Result<(), RunError> {
        let rootfs = root.to_str().expect("a plain path");
        let words = ["nacre", "run", "--rootfs", rootfs, "--", program];
        let Command::Run(args) = Args::try_parse_from(words).expect("arguments").command else {
            panic!("no run")
        };
        let user = User {
            name: user.to_owned(),
            ..Default::default()
        };
        let request = StartProcessRequest {
            args: vec![program.to_owned()],
            env: vec!["PATH=/bin".to_owned()],
            cwd: cwd.to_owned(),
            user: Some(user).into(),
            ..Default::default()
        };
        check(&args, &request)
    }

    #[test]
    fn what_is_not_in_the_root_is_told_with_the_code_of_a_shell() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        for made in ["bin", "etc"] {
            std::fs::create_dir(root.join(made)).expect("a directory");
        }
        std::fs::write(root.join("bin/sh"), "").expect("a file");
        std::fs::write(root.join("bin/script"), "#!/bin/bash\n").expect("a file");
        std::fs::write(root.join("etc/passwd"), "u:x:7:8::/home/u:\n").expect("a file");
        for (user, cwd, program) in [
            ("", "/", "sh"),
            ("u", "/etc", "/bin/sh"),
            ("9:9", "/made/by/run", "sh"),
            // Not for us to tell: mounts come to lie there.
            ("", "/proc/self", "/proc/self/exe"),
        ] {
            checked(root, user, cwd, program).expect("nothing to complain of");
        }
        for (user, cwd, program, code, words) in [
            ("nobody", "/", "sh", 125, "no user \"nobody\""),
            ("u:none", "/", "sh", 125, "no group \"none\""),
            (
                "",
                "/etc/passwd",
                "sh",
                125,
                "\"/etc/passwd\" is not a directory",
            ),
            ("", "etc", "sh", 125, "\"etc\" is not absolute"),
            (
                "",
                "/",
                "bash",
                127,
                "cannot run \"bash\": no such file or directory",
            ),
            (
                "",
                "/",
                "script",
                127,
                "\"/bin/bash\", the interpreter of /bin/script",
            ),
        ] {
            let error = checked(root, user, cwd, program).expect_err(words);
            assert_eq!(error.exit_code(), code, "{error}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
