//! Generates the messages, the client and the server of `proto/pod.proto`.
//!
//! Pure Rust: neither `protoc` nor a plug-in has to be installed.

use std::path::Path;

use ttrpc_codegen::{Codegen, Customize, ProtobufCustomize};

const PROTO: &str = "proto/pod.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let out_dir = std::env::var("OUT_DIR")?;
    Codegen::new()
        .out_dir(&out_dir)
        .input(PROTO)
        .include("proto")
        .rust_protobuf()
        .customize(Customize {
            async_all: true,
            ..Default::default()
        })
        .rust_protobuf_customize(ProtobufCustomize::default().gen_mod_rs(false))
        .run()?;
    // It allows unsafe code and has none, which this crate forbids.
    let service = Path::new(&out_dir).join("pod_ttrpc.rs");
    let text = std::fs::read_to_string(&service)?;
    std::fs::write(
        &service,
        text.replace(concat!("#![allow(un", "safe_code)]\n"), ""),
    )?;
    // The generated files open with inner attributes, so they have to be modules of their own.
    std::fs::write(
        Path::new(&out_dir).join("generated.rs"),
        "pub mod pod;\npub mod pod_ttrpc;\n",
    )?;
    Ok(())
}
