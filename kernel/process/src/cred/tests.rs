//! The transitions against Linux's documented tables.

use fs::{Capabilities, Credentials, Kgid, Kuid, UserNamespace};

use super::file_capabilities::FileCapabilities;
use super::*;
use abi::Errno;

fn kuid(number: u32) -> Kuid {
    UserNamespace::INITIAL.kuid(number).unwrap()
}

fn kgid(number: u32) -> Kgid {
    UserNamespace::INITIAL.kgid(number).unwrap()
}

fn ids(cred: &Credentials) -> [u32; 4] {
    [cred.uid, cred.euid, cred.suid, cred.fsuid].map(|user| UserNamespace::INITIAL.shown_uid(user))
}

#[test]
fn root_gives_itself_up_for_good_with_setuid() {
    let user = set_uid(&Credentials::root(), kuid(1000)).unwrap();
    assert_eq!(ids(&user), [1000; 4]);
    assert!(user.permitted.is_empty() && user.effective.is_empty());
    assert_eq!(set_uid(&user, kuid(0)), Err(Errno::EPERM));
}

#[test]
fn keepcaps_keeps_permitted_but_not_effective() {
    let mut root = Credentials::root();
    root.securebits = securebits::KEEP_CAPS;
    let user = set_uid(&root, kuid(1000)).unwrap();
    assert_eq!(user.permitted, root.permitted);
    assert!(user.effective.is_empty());
}

#[test]
fn seteuid_comes_and_goes() {
    let away = set_resuid(&Credentials::root(), [None, Some(kuid(1000)), None]).unwrap();
    assert_eq!(ids(&away), [0, 1000, 0, 1000]);
    assert!(away.effective.is_empty() && !away.permitted.is_empty());
    let back = set_resuid(&away, [None, Some(Kuid::ROOT), None]).unwrap();
    assert_eq!(back.effective, away.permitted);
}

#[test]
fn setreuid_swaps_and_sets_the_saved_id() {
    let mut cred = Credentials::user(1000, 1000);
    cred.euid = kuid(2000);
    cred.suid = kuid(2000);
    let swapped = set_reuid(&cred, Some(kuid(2000)), Some(kuid(1000))).unwrap();
    assert_eq!(ids(&swapped), [2000, 1000, 1000, 1000]);
    assert_eq!(set_reuid(&cred, Some(kuid(3000)), None), Err(Errno::EPERM));
}

#[test]
fn setregid_does_not_look_at_capabilities_of_users() {
    let cred = Credentials::user(1000, 1000);
    assert_eq!(set_gid(&cred, kgid(5)), Err(Errno::EPERM));
    let own = Some(kgid(1000));
    assert_eq!(set_resgid(&cred, [own; 3]).unwrap(), cred);
}

#[test]
fn setfsuid_takes_file_capabilities_along() {
    let fs_user = set_fsuid(&Credentials::root(), kuid(1000)).unwrap();
    assert!(
        !fs_user.capable(Capabilities::DAC_OVERRIDE) && fs_user.capable(Capabilities::SYS_ADMIN)
    );
    let back = set_fsuid(&fs_user, Kuid::ROOT).unwrap();
    assert!(back.capable(Capabilities::DAC_OVERRIDE));
    assert_eq!(set_fsuid(&Credentials::user(1, 1), kuid(2)), None);
}

#[test]
fn capset_never_grows_permitted() {
    let some = Capabilities::CHOWN | Capabilities::KILL;
    let empty = Capabilities::empty();
    let less = capset(&Credentials::root(), some, some, empty).unwrap();
    assert_eq!(less.permitted, some);
    let more = some | Capabilities::SYS_ADMIN;
    assert_eq!(capset(&less, some, more, empty), Err(Errno::EPERM));
    assert_eq!(capset(&less, more, some, empty), Err(Errno::EPERM));
}

#[test]
fn ambient_needs_permitted_and_inheritable_and_shrinks_with_them() {
    let kill = Capabilities::KILL;
    let root = Credentials::root();
    assert_eq!(raise_ambient(&root, kill), Err(Errno::EPERM));
    let inherits = capset(&root, root.effective, root.permitted, kill).unwrap();
    let raised = raise_ambient(&inherits, kill).unwrap();
    let dropped = capset(
        &raised,
        root.effective,
        root.permitted,
        Capabilities::empty(),
    )
    .unwrap();
    assert!(dropped.ambient.is_empty());
}

#[test]
fn locked_securebits_stay() {
    let root = Credentials::root();
    let locked = set_securebits(&root, securebits::NOROOT | securebits::NOROOT << 1).unwrap();
    assert_eq!(set_securebits(&locked, 0), Err(Errno::EPERM));
    assert_eq!(set_securebits(&locked, 1 << 9), Err(Errno::EPERM));
}

#[test]
fn exec_of_a_set_user_id_root_file_is_secure_and_privileged() {
    let mut user = Credentials::user(1000, 1000);
    user.bounding = Capabilities::all();
    let file = FilePrivileges {
        set_uid: Some(Kuid::ROOT),
        ..FilePrivileges::default()
    };
    let (new, secure) = for_exec(&user, file).unwrap();
    assert_eq!(ids(&new), [1000, 0, 0, 0]);
    assert!(secure && new.capable(Capabilities::SYS_ADMIN));
}

#[test]
fn plain_exec_keeps_ids_and_drops_capabilities_of_users() {
    let mut user = Credentials::user(1000, 1000);
    user.permitted = Capabilities::KILL;
    user.effective = Capabilities::KILL;
    let (new, secure) = for_exec(&user, FilePrivileges::default()).unwrap();
    assert!(!secure && new.permitted.is_empty() && new.effective.is_empty());
    let (root, secure) = for_exec(&Credentials::root(), FilePrivileges::default()).unwrap();
    assert!(!secure && root.capable(Capabilities::all()));
}

#[test]
fn ambient_capabilities_survive_exec() {
    let mut user = Credentials::user(1000, 1000);
    user.permitted = Capabilities::KILL;
    user.inheritable = Capabilities::KILL;
    user.ambient = Capabilities::KILL;
    let (new, _) = for_exec(&user, FilePrivileges::default()).unwrap();
    assert_eq!(new.effective, Capabilities::KILL);
}

#[test]
fn who_shares_its_root_gains_nothing_by_exec() {
    let file = FilePrivileges {
        set_uid: Some(Kuid::ROOT),
        set_gid: Some(Kgid::ROOT),
        is_shared: true,
        ..FilePrivileges::default()
    };
    let (new, _) = for_exec(&Credentials::user(1000, 1000), file).unwrap();
    assert_eq!(ids(&new), [1000; 4]);
    assert_eq!(
        (new.egid, new.permitted),
        (kgid(1000), Capabilities::empty())
    );
    // Root has it all already.
    let (new, _) = for_exec(&Credentials::root(), file).unwrap();
    assert_eq!(new.permitted, Credentials::root().permitted);
}

fn with_capabilities(permitted: Capabilities, is_effective: bool) -> FilePrivileges {
    FilePrivileges {
        capabilities: Some(FileCapabilities {
            permitted,
            inheritable: Capabilities::KILL,
            is_effective,
        }),
        ..FilePrivileges::default()
    }
}

#[test]
fn capabilities_of_a_file_are_gained_within_the_bounding_set() {
    let bind = Capabilities::NET_BIND_SERVICE;
    let mut user = Credentials::user(1000, 1000);
    user.bounding = Capabilities::all();
    user.ambient = Capabilities::CHOWN;
    let (new, secure) = for_exec(&user, with_capabilities(bind, true)).unwrap();
    assert!(secure && new.effective == bind && new.permitted == bind && new.ambient.is_empty());
    let (new, secure) = for_exec(&user, with_capabilities(bind, false)).unwrap();
    assert!(secure && new.effective.is_empty() && new.permitted == bind);
    user.bounding = Capabilities::CHOWN;
    assert_eq!(
        for_exec(&user, with_capabilities(bind, true)),
        Err(Errno::EPERM)
    );
    user.inheritable = Capabilities::KILL;
    let (new, _) = for_exec(&user, with_capabilities(bind, false)).unwrap();
    assert_eq!(new.permitted, Capabilities::KILL);
}

#[test]
fn no_new_privileges_means_none_of_a_file() {
    let mut user = Credentials::user(1000, 1000);
    user.bounding = Capabilities::all();
    let file = FilePrivileges {
        no_new_privs: true,
        ..with_capabilities(Capabilities::CHOWN, true)
    };
    let (new, _) = for_exec(&user, file).unwrap();
    assert!(new.permitted.is_empty() && new.effective.is_empty());
}

#[test]
fn a_set_user_id_program_with_capabilities_has_only_those() {
    let mut user = Credentials::user(1000, 1000);
    user.bounding = Capabilities::all();
    let file = FilePrivileges {
        set_uid: Some(Kuid::ROOT),
        ..with_capabilities(Capabilities::CHOWN, true)
    };
    let (new, _) = for_exec(&user, file).unwrap();
    assert_eq!((new.euid, new.permitted), (Kuid::ROOT, Capabilities::CHOWN));
}
