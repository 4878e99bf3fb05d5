//! What is made of files that are right, and told of those that are not. That it compiles and does what it should is for the tests of
//! `thrift-tests`.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::fs;
use std::path::Path;

use callosum_thrift_build::{BuildError, Builder, generate};
use callosum_thrift_idl::Loader;

fn make(text: &str) -> Result<String, BuildError> {
    generate(&Loader::new().parse("it", text).unwrap())
}

fn wrong(text: &str) -> String {
    make(text).unwrap_err().to_string()
}

/// The README of `callosum-thrift` compiles it. `CALLOSUM_BLESS=1 cargo test -p callosum-thrift-build` writes it anew.
#[test]
fn the_generated_code_is_that_of_the_repository() {
    let thrift = Path::new(env!("CARGO_MANIFEST_DIR")).join("../thrift");
    let readme = fs::read_to_string(thrift.join("README.md")).unwrap();
    let (_, file) = readme.split_once("```text\n// calculator.thrift\n").unwrap();
    let (file, _) = file.split_once("```").unwrap();
    let generated = generate(&Loader::new().parse("calculator", file).unwrap()).unwrap();
    let golden = thrift.join("tests/generated/calculator.rs");
    if std::env::var_os("CALLOSUM_BLESS").is_some() {
        fs::write(&golden, &generated).unwrap();
    }
    let golden = fs::read_to_string(golden).unwrap();
    assert!(generated == golden, "it has changed; CALLOSUM_BLESS=1 writes it anew:\n{generated}");
}

#[test]
fn docs_are_those_of_the_file_whatever_is_in_them() {
    let code =
        make("/** Says \"hi\" \\ */ struct A { // It.\n // A field.\n 1: i32 a, // The end.\n 2: i32 b }")
            .unwrap();
    assert!(code.contains(r#"#[doc = " Says \"hi\" \\"]"#), "{code}");
    assert!(code.contains("#[doc = \" A field.\"]\npub a"), "{code}");
    assert!(!code.contains("It.") && !code.contains("The end."), "what ends a line is about that line");
}

#[test]
fn constants_are_checked_against_their_types() {
    for (text, told) in [
        ("const i8 A = 128", "A is not an integer of 8 bits"),
        ("const i16 A = -32769", "A is not an integer of 16 bits"),
        ("const i32 A = \"x\"", "A is not an integer of 32 bits"),
        ("const bool A = 2", "A is not a bool"),
        ("const string A = 1", "A is not a string"),
        ("const double A = \"x\"", "A is not a number"),
        ("const list<i8> A = [1, 200]", "A is not an integer of 8 bits"),
        ("const map<i8, i8> A = [1]", "A is not a map"),
        ("const uuid A = \"00\"", "A is not a UUID"),
        ("struct P { 1: required i32 x } const P A = {}", "A is not a super::it::P: it lacks the field x"),
        ("struct P { 1: i32 x } const P A = {\"y\": 1}", "A is not a super::it::P, which has no field y"),
        ("union U { 1: i32 x, 2: i32 y } const U A = {\"x\": 1, \"y\": 1}", "A is not a union of one field"),
        (
            "struct P { 1: i32 x } const P A = {\"x\": 1, \"x\": 2}",
            "A is not a super::it::P: it has the field x twice",
        ),
        ("struct A { 1: i32 x, 2: A a = {} }", "a is not finite: the default of a contains itself"),
        (
            "struct A { 1: B b = {} } struct B { 1: A a = {} }",
            "b is not finite: the default of a contains itself",
        ),
        ("struct P { 1: i32 x = \"x\" }", "x is not an integer of 32 bits"),
    ] {
        assert_eq!(wrong(text), told, "{text}");
    }
    // A constant of another type that fits.
    assert!(
        make("enum E { X = 7 } const i8 A = E.X const i64 B = A const double C = B const bool D = 1").is_ok()
    );
}

#[test]
fn names_that_are_the_same_in_rust_are_refused() {
    for (text, name) in [
        ("struct A { 1: i32 longName, 2: i32 long_name }", "long_name"),
        ("struct big_one {} struct BigOne {}", "BigOne"),
        ("service S { void doIt(), void do_it() }", "do_it"),
        ("union U { 1: i32 a_b, 2: i32 aB }", "AB"),
        ("const i32 AB = 1 enum a_b { X }", "AB"),
        ("service A { void doIt() } service B extends A { void do_it() }", "do_it"),
        ("enum E { self = 1, self_ = 2 }", "self_"),
    ] {
        assert!(matches!(make(text), Err(BuildError::Names { name: found, .. }) if found == name), "{text}");
    }
    assert_eq!(
        wrong("const i32 __to = 1"),
        "the constant __to of it.thrift begins with `__`, which is reserved for generated code; rename it"
    );
}

#[test]
fn names_that_are_derived_make_way() {
    let code = make("struct SClient {} const i32 SServer = 1 service S {}").unwrap();
    for name in ["pub struct SClient {", "pub const SServer:", "pub struct SClient_(", "pub struct SServer_<"]
    {
        assert!(code.contains(name), "{name} is not in {code}");
    }
}

#[test]
fn a_file_is_written_where_it_is_to_be() {
    let folder = std::env::temp_dir().join(format!("callosum-thrift-build-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("it.thrift");
    fs::write(&file, "struct A {}").unwrap();
    let builder = Builder::new().out_folder(&folder);
    builder.compile(&file).unwrap();
    assert!(fs::read_to_string(folder.join("it.thrift.rs")).unwrap().contains("pub struct A"));
    // Once more, but not another file of that name, whose code the program would have in its place.
    builder.compile(&file).unwrap();
    let other = folder.join("other/it.thrift");
    fs::create_dir(folder.join("other")).unwrap();
    fs::write(&other, "struct B {}").unwrap();
    let overwritten = builder.compile(&other).unwrap_err();
    assert!(matches!(overwritten, BuildError::Overwritten(_)), "{overwritten}");
    builder.compile_all("another", [&other]).unwrap();
    assert!(fs::read_to_string(folder.join("it.thrift.rs")).unwrap().contains("pub struct A"));
    let unwritten = Builder::new().out_folder(folder.join("nope")).compile(&file).unwrap_err();
    assert!(matches!(unwritten, BuildError::Write { .. }), "{unwritten}");
    fs::remove_dir_all(&folder).unwrap();
}
