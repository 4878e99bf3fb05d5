//! What is generated is what is in the repository, where the tests of `callosum-protobuf` compile it.
//!
//! `CALLOSUM_BLESS=1 cargo test -p callosum-protobuf-build` writes it anew.

use std::path::{Path, PathBuf};
use std::{env, fs};

use callosum_protobuf_build::{Builder, Error, prost_build};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn compile(builder: Builder, proto: &Path, out: &Path) -> Result<(), Error> {
    fs::create_dir_all(out).expect("a scratch folder can be made");
    let include = proto.parent().expect("a file is in a folder");
    let folder = |prost: &mut prost_build::Config| {
        prost.out_dir(out);
    };
    builder.messages(folder).compile([proto], [include])
}

fn proto(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

fn greeter() -> PathBuf {
    proto("greeter.proto")
}

/// Compares what is made of a file with what the repository has.
fn compare(builder: Builder, proto: &Path, name: &str) {
    let out = folder(name);
    compile(builder, proto, &out).expect("it compiles");
    let generated = fs::read_to_string(out.join(name)).expect("it was written");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protobuf/tests/generated").join(name);
    if env::var_os("CALLOSUM_BLESS").is_some() {
        fs::write(&golden, &generated).expect("the repository can be written");
    }
    let golden = fs::read_to_string(&golden).expect("it is in the repository");
    assert!(generated == golden, "it has changed; CALLOSUM_BLESS=1 writes it anew:\n{generated}");
}

#[test]
fn the_generated_code_is_that_of_the_repository() {
    compare(Builder::new(), &greeter(), "hello.v1.rs");
}

/// `tests/another_runtime.rs` of `callosum-protobuf` compiles it and makes its calls.
#[test]
fn so_is_that_for_another_runtime() {
    let builder = Builder::new().codec("crate::RustProtobuf").messages(|prost| {
        // Not Rust's `String` for a `StringValue`, which is prost's.
        prost.compile_well_known_types();
        prost.extern_path(".google.protobuf", "::protobuf::well_known_types::wrappers");
    });
    compare(builder, &proto("echo.proto"), "test.rs");
}

#[test]
fn clients_servers_and_the_codec_are_a_choice() {
    let out = folder("choice");
    let generate = |builder: Builder| {
        compile(builder, &greeter(), &out).expect("it compiles");
        fs::read_to_string(out.join("hello.v1.rs")).expect("it was written")
    };
    let client = generate(Builder::new().servers(false).codec("crate::Mine"));
    assert!(client.contains("struct GreeterClient") && !client.contains("trait Greeter"));
    assert!(client.contains("crate::Mine") && !client.contains("callosum_protobuf::Prost"));
    let server = generate(Builder::new().clients(false));
    assert!(server.contains("trait Greeter") && !server.contains("struct GreeterClient"));
}

#[test]
fn descriptors_are_written_with_what_is_imported() {
    let path = folder("greeter.bin");
    let builder = Builder::new().descriptor_set(&path);
    compile(builder, &greeter(), &folder("descriptors")).expect("it compiles");
    let set = fs::read(path).expect("it was written");
    for name in ["greeter.proto", "google/protobuf/empty.proto"] {
        assert!(set.windows(name.len()).any(|bytes| bytes == name.as_bytes()), "{name} is in it");
    }
}

#[test]
fn errors_name_the_file_and_what_is_wrong() {
    let out = folder("errors");
    fs::create_dir_all(&out).expect("a scratch folder can be made");
    let proto = out.join("wrong.proto");
    fs::write(&proto, "syntax = \"proto3\";\nmessage A { B b = 1; }\n").expect("it can be written");
    let error = compile(Builder::new(), &proto, &out).expect_err("there is no B").to_string();
    assert!(error.contains("wrong.proto") && error.contains('B'), "{error}");
    let error = compile(Builder::new(), &out.join("nothing.proto"), &out).expect_err("there is no file");
    assert!(error.to_string().contains("nothing.proto"), "{error}");
}
