//! What is generated is what is in the repository, where the tests of `callosum-protobuf` compile it.
//!
//! `CALLOSUM_BLESS=1 cargo test -p callosum-protobuf-build` writes it anew.

use std::path::{Path, PathBuf};
use std::{env, fs};

use callosum_protobuf_build::{Builder, Error};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn compile(builder: Builder, proto: &Path, out: &Path) -> Result<(), Error> {
    fs::create_dir_all(out).expect("a scratch folder can be made");
    builder.out_folder(out).compile([proto], [proto.parent().expect("a file is in a folder")])
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
    let generate = |builder: Builder, name: &str| {
        let out = folder(name);
        compile(builder, &greeter(), &out).expect("it compiles");
        fs::read_to_string(out.join("hello.v1.rs")).expect("it was written")
    };
    let client = generate(Builder::new().servers(false).codec("crate::Mine"), "only_clients");
    assert!(client.contains("struct GreeterClient") && !client.contains("trait Greeter"));
    assert!(client.contains("crate::Mine") && !client.contains("callosum_protobuf::Prost"));
    let server = generate(Builder::new().clients(false), "only_servers");
    assert!(server.contains("trait Greeter") && !server.contains("struct GreeterClient"));
}

/// Writes a file of these definitions into a folder.
fn write(folder: &Path, name: &str, definitions: &str) -> PathBuf {
    fs::create_dir_all(folder).expect("a scratch folder can be made");
    let path = folder.join(name);
    fs::write(&path, format!("syntax = \"proto3\"; package it; {definitions}")).expect("it can be written");
    path
}

#[test]
fn what_a_file_declares_keeps_its_name_in_any_order() {
    let out = folder("order");
    let declarations = [
        "service Foo { rpc Get(M) returns (M); }",
        "service FooClient {}",
        "service Bar {}",
        "message M {}",
        "message BarClient {}",
    ];
    let mut made = Vec::new();
    for first in 0..declarations.len() {
        let mut declarations = declarations;
        declarations.rotate_left(first);
        let name = format!("{first}");
        let proto = write(&out, &format!("{name}.proto"), &declarations.concat());
        compile(Builder::new(), &proto, &out.join(&name)).expect("it compiles");
        let code = fs::read_to_string(out.join(name).join("it.rs")).expect("it was written");
        for kept in ["trait Foo:", "trait FooClient:", "trait Bar:", "struct M ", "struct BarClient "] {
            assert!(code.contains(&format!("pub {kept}")), "{kept} is not in {code}");
        }
        let derived = |line: &&str| line.ends_with("Client_ {") || line.ends_with("ClientClient {");
        let mut derived: Vec<_> = code.lines().filter(derived).map(str::to_owned).collect();
        derived.sort_unstable();
        made.push(derived);
    }
    let client = |name| vec![format!("impl {name} {{"), format!("pub struct {name} {{")];
    let mut expected = ["BarClient_", "FooClient_", "FooClientClient"].map(client).concat();
    expected.sort_unstable();
    assert!(made.iter().all(|made| *made == expected), "{made:?}");
}

#[test]
fn a_package_is_not_overwritten_with_other_files_of_it() {
    let out = folder("twice");
    let common = write(&out, "common.proto", "message Common {}");
    let other = write(&out, "other.proto", "message Other {}");
    // One of an earlier build.
    write(&out, "it.rs", "");
    for _ in 0..2 {
        compile(Builder::new(), &common, &out).expect("the same once more is no loss");
    }
    let error = compile(Builder::new(), &other, &out).expect_err("its code is where that of the first was");
    assert!(matches!(&error, Error::Overwritten(path) if path.ends_with("it.rs")), "{error}");
    let at_once = folder("at_once");
    fs::create_dir_all(&at_once).expect("a scratch folder can be made");
    Builder::new().out_folder(&at_once).compile([common, other], [out]).expect("it compiles");
    let code = fs::read_to_string(at_once.join("it.rs")).expect("it was written");
    assert!(code.contains("struct Common") && code.contains("struct Other"), "{code}");
}

#[test]
fn a_file_that_includes_packages_is_not_overwritten_with_others() {
    let out = folder("included");
    let compile = |package: &str| {
        let path = write(&out, &format!("{package}.proto"), "message M {}");
        let text = fs::read_to_string(&path).expect("it was written").replace("it;", &format!("{package};"));
        fs::write(&path, text).expect("it can be written");
        compile(Builder::new().include_file("all.rs"), &path, &out)
    };
    for _ in 0..2 {
        compile("one").expect("the same once more is no loss");
    }
    let error = compile("two").expect_err("there was another package");
    assert!(matches!(&error, Error::Overwritten(path) if path.ends_with("all.rs")), "{error}");
}

#[test]
fn a_file_that_includes_packages_is_not_written_over_one_of_them() {
    let out = folder("included_itself");
    let path = write(&out, "it.proto", "message M {}");
    let descriptors = out.join("descriptors.bin");
    let builder = Builder::new().include_file("it.rs").descriptor_set(&descriptors);
    let error = compile(builder, &path, &out).expect_err("the package is there");
    assert!(matches!(&error, Error::Overwritten(path) if path.ends_with("it.rs")), "{error}");
    assert!(!descriptors.exists(), "nothing is written");

    // A package without items has no file.
    let empty = write(&out, "empty.proto", "");
    compile(Builder::new().include_file("it.rs"), &empty, &out).expect("nothing is overwritten");
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
