//! What profiles say of calls, by running the programs that they become.

use serde_json::{Value, json};

use super::{Filter, filter};

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;
const GETPID: u32 = 39;
const CLONE: u32 = 56;

fn read(profile: Value) -> Result<Filter, String> {
    let profile = serde_json::from_value(profile).map_err(|error| error.to_string())?;
    filter(&profile).map_err(|error| error.to_string())
}

/// What the program of a profile says to a call, as seccomp(2) describes the machine that runs it.
fn run(program: &[u8], number: u32, arguments: [u64; 6]) -> u32 {
    let mut call = [number, 0xc000_003e, 0, 0].map(u32::to_ne_bytes).concat();
    call.extend(arguments.map(u64::to_ne_bytes).concat());
    let (mut a, mut at) = (0, 0);
    loop {
        let [c0, c1, jt, jf, k @ ..] = *program[at..].first_chunk::<8>().expect("an instruction");
        let k = u32::from_ne_bytes(k);
        let word = || u32::from_ne_bytes(call[k as usize..][..4].try_into().expect("a word"));
        let choose = |holds: bool| 8 * usize::from(if holds { jt } else { jf });
        at += 8;
        match u16::from_ne_bytes([c0, c1]) {
            0x20 => a = word(),
            0x54 => a &= k,
            0x05 => at += 8 * k as usize,
            0x15 => at += choose(a == k),
            0x25 => at += choose(a > k),
            0x35 => at += choose(a >= k),
            0x06 => return k,
            other => panic!("code {other:#x}"),
        }
    }
}

fn says(profile: &Value, number: u32, arguments: [u64; 6]) -> u32 {
    run(
        &read(profile.clone()).expect("a filter").program,
        number,
        arguments,
    )
}

fn allowing(names: &[&str]) -> Value {
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]})
}

#[test]
fn calls_are_what_the_profile_says_and_new_ones_are_not_there() {
    let profile = allowing(&[
        "getpid",
        "read",
        "write",
        "openat2",
        "no_such_call",
        "socketcall",
    ]);
    for (number, expected) in [
        (0, ALLOW),
        (1, ALLOW),
        (2, EPERM),
        (GETPID - 1, EPERM),
        (GETPID, ALLOW),
        (GETPID + 1, EPERM),
        (437, ALLOW),
        (438, ENOSYS),
        (u32::MAX, ENOSYS),
    ] {
        assert_eq!(says(&profile, number, [0; 6]), expected, "{number}");
    }
    for (default, beyond) in [
        ("SCMP_ACT_ALLOW", ALLOW),
        ("SCMP_ACT_LOG", 0x7ffc_0000),
        ("SCMP_ACT_TRACE", 0x7ff0_0001),
        ("SCMP_ACT_KILL", ENOSYS),
    ] {
        let mut other = profile.clone();
        other["defaultAction"] = default.into();
        assert_eq!(says(&other, 438, [0; 6]), beyond, "{default}");
    }
}

#[test]
fn every_action_and_its_number_reach_the_kernel() {
    for (action, number, expected) in [
        ("SCMP_ACT_KILL", None, 0),
        ("SCMP_ACT_KILL_THREAD", None, 0),
        ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
        ("SCMP_ACT_TRAP", None, 0x0003_0000),
        ("SCMP_ACT_ERRNO", None, EPERM),
        ("SCMP_ACT_ERRNO", Some(38), ENOSYS),
        ("SCMP_ACT_ERRNO", Some(0), 0x0005_0000),
        ("SCMP_ACT_TRACE", Some(7), 0x7ff0_0007),
        ("SCMP_ACT_LOG", None, 0x7ffc_0000),
    ] {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["getpid"], "action": action}]});
        if let Some(number) = number {
            profile["syscalls"][0]["errnoRet"] = number.into();
        }
        assert_eq!(says(&profile, GETPID, [0; 6]), expected, "{action}");
        assert_eq!(says(&profile, GETPID + 1, [0; 6]), ALLOW);
    }
    let default = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 99});
    assert_eq!(says(&default, GETPID, [0; 6]), 0x0005_0063);
}

#[test]
fn conditions_compare_all_64_bits() {
    let large = (3 << 32) | 5;
    let around = [
        0,
        5,
        6,
        3 << 32,
        large - 1,
        large,
        large + 1,
        (2 << 32) | 9,
        (4 << 32) | 1,
        u64::MAX,
    ];
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("SCMP_CMP_EQ", |a, b| a == b),
        ("SCMP_CMP_NE", |a, b| a != b),
        ("SCMP_CMP_GT", |a, b| a > b),
        ("SCMP_CMP_GE", |a, b| a >= b),
        ("SCMP_CMP_LT", |a, b| a < b),
        ("SCMP_CMP_LE", |a, b| a <= b),
    ];
    for (operator, holds) in operators {
        for index in 0..6 {
            for value in [0, 5, large, u64::MAX] {
                let mut profile = allowing(&["clone"]);
                profile["syscalls"][0]["args"] =
                    json!([{"index": index, "value": value, "op": operator}]);
                for argument in around {
                    let mut arguments = [77; 6];
                    arguments[index] = argument;
                    let expected = if holds(argument, value) { ALLOW } else { EPERM };
                    assert_eq!(
                        says(&profile, CLONE, arguments),
                        expected,
                        "{argument} {operator} {value}"
                    );
                }
            }
        }
    }
    let mut masked = allowing(&["clone"]);
    // Bits outside of the mask do not count in either.
    masked["syscalls"][0]["args"] = json!([{"index": 0, "value": 0xf_0000_0f00_u64, "valueTwo": 0x3_0000_0200_u64 | 1, "op": "SCMP_CMP_MASKED_EQ"}]);
    for (argument, expected) in [
        (0x3_0000_0200, ALLOW),
        (0x93_0000_f2ff, ALLOW),
        (0x3_0000_0300, EPERM),
        (0x200, EPERM),
    ] {
        assert_eq!(
            says(&masked, CLONE, [argument; 6]),
            expected,
            "{argument:#x}"
        );
    }
}

#[test]
fn conditions_all_hold_but_those_on_one_argument_are_alternatives() {
    let equal =
        |index: u32, value: u32| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let mut both = allowing(&["clone"]);
    both["syscalls"][0]["args"] = json!([equal(0, 1), equal(1, 2)]);
    assert_eq!(says(&both, CLONE, [1, 2, 0, 0, 0, 0]), ALLOW);
    assert_eq!(says(&both, CLONE, [1, 1, 0, 0, 0, 0]), EPERM);
    let mut either = allowing(&["clone"]);
    either["syscalls"][0]["args"] = json!([equal(0, 1), equal(0, 2), equal(1, 9)]);
    for (arguments, expected) in [
        ([1, 0], ALLOW),
        ([2, 0], ALLOW),
        ([3, 9], ALLOW),
        ([3, 8], EPERM),
    ] {
        assert_eq!(
            says(&either, CLONE, [arguments[0], arguments[1], 0, 0, 0, 0]),
            expected
        );
    }
}

#[test]
fn of_several_rules_the_one_without_conditions_decides_else_the_first() {
    let rule =
        |action: &str, args: Value| json!({"names": ["clone"], "action": action, "args": args});
    let on = |value: u32| json!([{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]);
    let of = |rules: Vec<Value>| json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules});
    let profile = of(vec![
        rule("SCMP_ACT_TRAP", on(1)),
        rule("SCMP_ACT_LOG", json!([])),
        rule("SCMP_ACT_ALLOW", json!([])),
    ]);
    assert_eq!(says(&profile, CLONE, [1; 6]), 0x7ffc_0000);
    let profile = of(vec![
        rule("SCMP_ACT_TRAP", on(1)),
        rule("SCMP_ACT_ALLOW", on(1)),
        rule("SCMP_ACT_ALLOW", on(2)),
    ]);
    assert_eq!(says(&profile, CLONE, [1; 6]), 0x0003_0000);
    assert_eq!(says(&profile, CLONE, [2; 6]), ALLOW);
    assert_eq!(says(&profile, CLONE, [3; 6]), EPERM);
    // What the default says already is no rule.
    let profile = of(vec![
        rule("SCMP_ACT_ERRNO", json!([])),
        rule("SCMP_ACT_ALLOW", on(2)),
    ]);
    assert_eq!(says(&profile, CLONE, [2; 6]), ALLOW);
}

#[test]
fn a_large_profile_reaches_all_of_its_leaves() {
    // Every second call, each with rules of its own, so that jumps over more than 255 instructions are needed.
    let names: Vec<&str> = (0..300)
        .step_by(2)
        .filter_map(|number| syscalls::Sysno::new(number).map(|call| call.name()))
        .collect();
    let mut profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []});
    let rules = names.iter().enumerate().map(|(nth, name)| {
        json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": nth + 100,
            "args": [{"index": 1, "value": nth, "op": "SCMP_CMP_EQ"}]})
    });
    profile["syscalls"] = rules.collect();
    let program = read(profile).expect("a filter").program;
    for (nth, name) in names.iter().enumerate() {
        let number: syscalls::Sysno = name.parse().expect("a call");
        let number = u32::try_from(number.id()).expect("a number");
        let argument = u64::try_from(nth).expect("small");
        let own = 0x0005_0000 + u32::try_from(nth + 100).expect("small");
        assert_eq!(run(&program, number, [argument; 6]), own, "{name}");
        assert_eq!(run(&program, number, [argument + 1; 6]), EPERM, "{name}");
    }
}

#[test]
fn what_cannot_be_enforced_is_refused_by_name() {
    let with = |name: &str, value: Value| {
        let mut profile = allowing(&["getpid"]);
        profile[name] = value;
        read(profile).expect_err(name)
    };
    let entry =
        |change: Value| json!([{"names": ["getpid"], "action": "SCMP_ACT_ALLOW", "args": change}]);
    for (said, word) in [
        (
            with("defaultAction", json!("SCMP_ACT_FROB")),
            "SCMP_ACT_FROB",
        ),
        (
            with("defaultAction", json!("SCMP_ACT_NOTIFY")),
            "SCMP_ACT_NOTIFY",
        ),
        (
            with("listenerPath", json!("/run/agent.sock")),
            "listenerPath",
        ),
        (
            with("flags", json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])),
            "WAIT_KILLABLE_RECV",
        ),
        (with("defaultErrnoRet", json!(4096)), "4096"),
        (
            with(
                "syscalls",
                entry(json!([{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}])),
            ),
            "argument 6",
        ),
        (
            with(
                "syscalls",
                entry(json!([{"index": 0, "value": 0, "op": "SCMP_CMP_FROB"}])),
            ),
            "SCMP_CMP_FROB",
        ),
    ] {
        assert!(said.contains(word), "{said}");
    }
    let mut flags = allowing(&["getpid"]);
    flags["flags"] = json!([
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW"
    ]);
    assert_eq!(read(flags).expect("a filter").flags, 6);
}
