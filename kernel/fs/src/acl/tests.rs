//! Lists against what Linux says of them.

use super::*;

const OWNER: u16 = 1;
const USER: u16 = 2;
const OWNING_GROUP: u16 = 4;
const GROUP: u16 = 8;
const MASK: u16 = 16;
const OTHER: u16 = 32;

fn value(entries: &[(u16, u16, u32)]) -> std::vec::Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(bits.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn acl(entries: &[(u16, u16, u32)]) -> Acl {
    let acl = Acl::from_xattr(&UserNamespace::INITIAL, &value(entries))
        .unwrap()
        .unwrap();
    acl.check().unwrap();
    acl
}

/// rwx for the owner, user 5 and groups 6 and 7 named, a mask of r-x.
fn example() -> Acl {
    acl(&[
        (OWNER, 7, 0),
        (USER, 6, 5),
        (OWNING_GROUP, 2, 0),
        (GROUP, 4, 6),
        (GROUP, 1, 7),
        (MASK, 5, 0),
        (OTHER, 4, 0),
    ])
}

#[test]
fn a_list_is_read_and_written_as_its_attribute() {
    let entries = [
        (OWNER, 7, 0),
        (USER, 6, 5),
        (OWNING_GROUP, 4, 0),
        (MASK, 5, 0),
        (OTHER, 1, 0),
    ];
    let mut expected = value(&entries);
    for (index, entry) in expected[4..].chunks_mut(8).enumerate() {
        if index != 1 {
            entry[4..].fill(0xff);
        }
    }
    assert_eq!(
        *acl(&entries).to_xattr(&UserNamespace::INITIAL).unwrap(),
        expected
    );
    assert_eq!(
        Acl::from_xattr(&UserNamespace::INITIAL, &[2, 0, 0, 0]),
        Ok(None)
    );
    assert_eq!(
        Acl::from_xattr(&UserNamespace::INITIAL, &[2, 0, 0]),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        Acl::from_xattr(&UserNamespace::INITIAL, &[1, 0, 0, 0]),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(
        Acl::from_xattr(&UserNamespace::INITIAL, &[2, 0, 0, 0, 1]),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        Acl::from_xattr(&UserNamespace::INITIAL, &value(&[(64, 0, 0)])),
        Err(Errno::EINVAL)
    );
    let nobody = value(&[(USER, 0, u32::MAX)]);
    assert_eq!(
        Acl::from_xattr(&UserNamespace::INITIAL, &nobody),
        Err(Errno::EINVAL)
    );
}

#[test]
fn entries_have_an_order_and_named_ones_need_a_mask() {
    let refused: [&[(u16, u16, u32)]; 7] = [
        &[(OWNER, 7, 0)],
        &[(OWNING_GROUP, 7, 0), (OWNER, 7, 0), (OTHER, 7, 0)],
        &[(OWNER, 7, 0), (OWNING_GROUP, 7, 0), (OTHER, 8, 0)],
        &[
            (OWNER, 7, 0),
            (USER, 7, 1),
            (OWNING_GROUP, 7, 0),
            (OTHER, 7, 0),
        ],
        &[
            (OWNER, 7, 0),
            (OWNING_GROUP, 7, 0),
            (USER, 7, 1),
            (MASK, 7, 0),
            (OTHER, 7, 0),
        ],
        &[
            (OWNER, 7, 0),
            (OWNING_GROUP, 7, 0),
            (OTHER, 7, 0),
            (OTHER, 7, 0),
        ],
        &[
            (OWNER, 7, 0),
            (OWNING_GROUP, 7, 0),
            (MASK, 7, 0),
            (GROUP, 7, 0),
            (OTHER, 7, 0),
        ],
    ];
    for entries in refused {
        let acl = Acl::from_xattr(&UserNamespace::INITIAL, &value(entries))
            .unwrap()
            .unwrap();
        assert_eq!(acl.check(), Err(Errno::EINVAL), "{entries:?}");
    }
    acl(&[
        (OWNER, 7, 0),
        (OWNING_GROUP, 7, 0),
        (MASK, 1, 0),
        (OTHER, 7, 0),
    ]);
}

#[test]
fn the_mask_stands_for_the_group_in_a_mode() {
    assert_eq!(example().as_mode(), (0o754, false));
    let plain = [(OWNER, 6, 0), (OWNING_GROUP, 4, 0), (OTHER, 0, 0)];
    assert_eq!(acl(&plain).as_mode(), (0o640, true));
    assert_eq!(
        acl(&plain).with_mode(0o1705).unwrap().as_mode(),
        (0o705, true)
    );
    let narrowed = example().with_mode(0o710).unwrap();
    assert_eq!(narrowed.as_mode(), (0o710, false));
    assert_eq!(narrowed.entries[1].bits, 6, "named ones stay");
    assert_eq!(narrowed.entries[2].bits, 2, "and the owning group");
}

#[test]
fn named_ones_get_what_the_mask_lets_through() {
    let meta = Metadata {
        uid: UserNamespace::INITIAL.kuid(1).unwrap(),
        gid: UserNamespace::INITIAL.kgid(2).unwrap(),
        ..Metadata::new(1, crate::FileKind::Regular, 0o754)
    };
    let may = |uid: u32, groups: &[u32], access: Access| {
        let caller = Credentials {
            groups: groups
                .iter()
                .map(|group| UserNamespace::INITIAL.kgid(*group).unwrap())
                .collect(),
            ..Credentials::user(uid, 100)
        };
        example().allows(&meta, &caller, access)
    };
    assert!(may(5, &[], Access::READ));
    assert!(!may(5, &[], Access::WRITE), "the mask has no w");
    assert!(
        !may(5, &[6, 7], Access::EXEC),
        "a named user's groups do not count"
    );
    assert!(!may(9, &[2], Access::WRITE) && !may(9, &[2], Access::READ));
    assert!(may(9, &[2, 6], Access::READ) && may(9, &[2, 7], Access::EXEC));
    let both = Access::READ | Access::EXEC;
    assert!(!may(9, &[6, 7], both), "one entry must give it all");
    assert!(may(9, &[], Access::READ) && !may(9, &[], Access::EXEC));
}

#[test]
fn a_new_file_gets_what_list_and_mode_both_give() {
    let default = Arc::new(example());
    let (mode, acls) = NewAcls::inherit(&default, 0o4666, false).unwrap();
    assert_eq!(mode, 0o4644);
    assert_eq!(acls.access.unwrap().as_mode(), (0o644, false));
    assert_eq!(acls.default, None);
    let (mode, acls) = NewAcls::inherit(&default, 0o777, true).unwrap();
    assert_eq!((mode, acls.default), (0o754, Some(default)));
    let plain = acl(&[(OWNER, 6, 0), (OWNING_GROUP, 4, 0), (OTHER, 0, 0)]);
    let (mode, acls) = NewAcls::inherit(&Arc::new(plain), 0o777, false).unwrap();
    assert_eq!((mode, acls), (0o640, NewAcls::default()));
}
