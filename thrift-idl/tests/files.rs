//! Files as they should be, and as they should not.
#![expect(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::fs;
use std::path::PathBuf;

use callosum_thrift_idl::{
    DefId, Flavour, IdlError, Kind, Loader, Problem, Requiredness, Schema, Type, Value,
};
use proptest::prelude::*;

fn parse(text: &str) -> Schema {
    Loader::new().parse("it", text).unwrap()
}

fn wrong(text: &str) -> String {
    Loader::new().parse("it", text).unwrap_err().to_string()
}

fn kind<'a>(schema: &'a Schema, name: &str) -> (DefId, &'a Kind) {
    let (id, definition) = schema.definitions(0).find(|(_, definition)| definition.name == name).unwrap();
    (id, &definition.kind)
}

#[test]
fn every_kind_of_definition_is_read() {
    let schema = parse(
        r#"
        namespace * a.b (x = "y")
        namespace rs c
        cpp_include "<x>"
        # A hash.
        const map<string, list<i32>> TABLE = {"a": [1, -2; 0x10], 'b': []}
        const double REAL = -1.5e3;
        typedef list<Node> Nodes (annotation = "x", other)
        enum Color { RED, GREEN = 5, BLUE; }
        struct Node { 1: required i32 value = 7 (x = "y"), 2: optional Nodes children; -3: set<byte> bytes, string last }
        union Either { 1: uuid id 2: binary data }
        /** One line.
          * Another. */
        exception Oops { 1: string message }
        service Parent { void ping() }
        service Child extends Parent {
            // What it does.
            Nodes all(1: Color color = Color.BLUE) throws (1: Oops oops) (x = "y"),
            oneway void tell(),
        }
        "#,
    );
    let (_, Kind::Struct(node)) = kind(&schema, "Node") else { panic!() };
    let fields: Vec<_> =
        node.fields.iter().map(|field| (field.id, &*field.name, field.requiredness)).collect();
    let expected = [
        (1, "value", Requiredness::Required),
        (2, "children", Requiredness::Optional),
        (-3, "bytes", Requiredness::Default),
        (-1, "last", Requiredness::Default),
    ];
    assert_eq!(fields, expected);
    assert!(matches!(node.fields[0].default, Some(Value::Int(7))));
    assert!(matches!(schema.underlying(&node.fields[1].ty), Type::List(_)));
    let (_, Kind::Enum(colors)) = kind(&schema, "Color") else { panic!() };
    assert_eq!(colors.iter().map(|color| color.number).collect::<Vec<_>>(), [0, 5, 6]);
    assert!(matches!(kind(&schema, "Either").1, Kind::Struct(either) if either.flavour == Flavour::Union));
    let Kind::Const(_, Value::Map(entries)) = kind(&schema, "TABLE").1 else { panic!() };
    assert!(
        matches!(&entries[0].1, Value::List(items) if matches!(items[..], [Value::Int(1), Value::Int(-2), Value::Int(16)]))
    );
    assert!(matches!(kind(&schema, "REAL").1, Kind::Const(_, Value::Double(-1500.0))));

    let (child, _) = kind(&schema, "Child");
    let all = schema.function(child, "all").unwrap();
    assert!(matches!(&all.arguments[0].default, Some(Value::Named(name)) if name.enum_value() == Some(2)));
    assert_eq!((all.throws[0].id, all.oneway, &*all.docs), (1, false, "What it does."));
    assert!(schema.function(child, "tell").unwrap().oneway);
    assert!(schema.function(child, "ping").is_some(), "of the service that is extended");
    let docs =
        schema.definitions(0).find(|(_, definition)| definition.name == "Oops").unwrap().1.docs.clone();
    assert_eq!(docs, "One line.\nAnother.");
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, told) in [
        ("struct A {\n  1: Nope a\n}", "it.thrift:2:6: Nope is not defined"),
        ("struct A { 1: i32 a, 1: i32 b }", "it.thrift:1:22: 1 is defined twice"),
        ("struct A { 1: i32 a, 2: i32 a }", "it.thrift:1:22: a is defined twice"),
        ("enum A { X }\nstruct A {}", "it.thrift:2:8: A is defined twice"),
        ("enum A { X, X }", "it.thrift:1:13: X is defined twice"),
        ("enum A { X = 2147483648 }", "it.thrift:1:10: the number 2147483648 is out of range"),
        ("struct A { 32768: i32 a }", "it.thrift:1:12: the number 32768 is out of range"),
        (
            "const i64 A = 9223372036854775808",
            "it.thrift:1:15: the number 9223372036854775808 is out of range",
        ),
        ("const i64 A = 12abc", "it.thrift:1:15: the number 12abc is out of range"),
        ("service A { i32 f(1: i32 a }", "it.thrift:1:28: expected a type, found `}`"),
        (
            "service A { oneway i32 f() }",
            "it.thrift:1:24: the oneway function f can't return or throw anything",
        ),
        ("struct E {} service A { void f() throws (1: E e) }", "it.thrift:1:42: e is not an exception"),
        ("service A extends B {} struct B {}", "it.thrift:1:19: B is not a service"),
        ("service A { void f(), void f() }", "it.thrift:1:28: f is defined twice"),
        ("service A extends B {} service B extends A {}", "it.thrift:1:9: A is defined in terms of itself"),
        ("typedef list<B> A typedef A B", "it.thrift:1:17: A is defined in terms of itself"),
        ("const i32 A = B const i32 B = A", "it.thrift:1:11: A is defined in terms of itself"),
        ("enum C { X } const C A = C.Y", "it.thrift:1:26: C.Y is not defined"),
        ("service S {} struct A { 1: S s }", "it.thrift:1:28: S is not a type"),
        (
            "union U { 1: required i32 a }",
            "it.thrift:1:11: the field a of a union can be neither required nor have a default",
        ),
        ("const string A = \"x", "it.thrift:1:18: this is not terminated"),
        ("/* x", "it.thrift:1:1: this is not terminated"),
        ("struct A { 1: i32 a } ?", "it.thrift:1:23: unexpected character '?'"),
        ("strict A {}", "it.thrift:1:1: expected a definition, found `strict`"),
        ("struct a.b {}", "it.thrift:1:8: expected a name without dots, found `a.b`"),
        ("struct A", "it.thrift:1:9: expected `{`, found the end of the file"),
        ("include \"nope.thrift\"", "it.thrift:1:9: there is no file nope.thrift"),
    ] {
        assert_eq!(wrong(text), told, "{text}");
    }
}

#[test]
fn nesting_has_a_limit() {
    let lists = |depth| format!("typedef {}i32{} A", "list<".repeat(depth), ">".repeat(depth));
    parse(&lists(63));
    assert!(wrong(&lists(64)).ends_with("this nests more than 64 levels deep"));
    let values = |depth| format!("const i32 A = {}1{}", "[".repeat(depth), "]".repeat(depth));
    parse(&values(63));
    assert!(wrong(&values(100_000)).ends_with("this nests more than 64 levels deep"));
}

/// A folder that is gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let folder = Self(std::env::temp_dir().join(format!("callosum-idl-{name}-{}", std::process::id())));
        fs::create_dir_all(folder.0.join("more")).unwrap();
        for (name, text) in files {
            fs::write(folder.0.join(name), text).unwrap();
        }
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn includes_are_followed() {
    let folder = Folder::new(
        "includes",
        &[
            (
                "root.thrift",
                "include \"a.thrift\"\ninclude \"b.thrift\"\nservice S extends a.S { a.T f(1: b.T t) }",
            ),
            ("a.thrift", "include \"b.thrift\"\ntypedef b.T T\nservice S {}"),
            // A circle is none: files may include each other.
            ("more/b.thrift", "include \"../a.thrift\"\nstruct T { 1: a.T t }\nconst i32 X = 1"),
        ],
    );
    let schema =
        Loader::new().include_folder(folder.0.join("more")).load(folder.0.join("root.thrift")).unwrap();
    let stems: Vec<_> = schema.files().iter().map(|file| file.stem()).collect();
    assert_eq!(stems, ["root", "a", "b"]);
    let (service, _) = schema.services().next().unwrap();
    let function = schema.function(service, "f").unwrap();
    let Type::Named(argument) = &function.arguments[0].ty else { panic!() };
    let Type::Named(result) = schema.underlying(function.result.as_ref().unwrap()) else { panic!() };
    assert_eq!(argument.target(), result.target());
    assert_eq!(schema.lineage(service).len(), 2);

    let missing = Loader::new().load(folder.0.join("root.thrift")).unwrap_err();
    assert!(
        matches!(missing, IdlError::Wrong { problem: Problem::NoSuchInclude(name), .. } if name == "b.thrift")
    );
    let unread = Loader::new().load(folder.0.join("nope.thrift")).unwrap_err();
    assert!(matches!(unread, IdlError::Read { .. }), "{unread}");
}

#[test]
fn files_of_one_name_are_told_apart_and_are_read_once() {
    let folder = Folder::new(
        "names",
        &[
            ("a.thrift", "include \"more/b.thrift\"\nservice A { b.T f() }"),
            ("b.thrift", "include \"a.thrift\"\nstruct U {} service B extends a.A { U f() }"),
            ("more/b.thrift", "struct T {}"),
        ],
    );
    let paths = ["a.thrift", "b.thrift", "more/../a.thrift"].map(|name| folder.0.join(name));
    let schema = Loader::new().load_all(&paths).unwrap();
    let names: Vec<_> = schema.files().iter().map(|file| (file.stem(), file.name())).collect();
    assert_eq!(names, [("a", "a"), ("b", "b"), ("b", "more_b")]);
    assert_eq!(schema.roots().len(), 2);
    let services: Vec<_> = schema.services().map(|(_, name)| name).collect();
    assert_eq!(services, ["A", "B"]);
    let none = Loader::new().load_all(&paths[..0]).unwrap_err();
    assert!(matches!(none, IdlError::NoFile), "{none}");
}

#[test]
fn names_of_files_that_are_not_included_are_not_known() {
    let folder = Folder::new(
        "scopes",
        &[
            ("root.thrift", "include \"a.thrift\"\nstruct S { 1: b.T t }"),
            ("a.thrift", "include \"b.thrift\""),
            ("b.thrift", "struct T {}"),
            ("twice.thrift", "include \"b.thrift\"\ninclude \"more/b.thrift\""),
            ("more/b.thrift", ""),
        ],
    );
    let error = Loader::new().load(folder.0.join("root.thrift")).unwrap_err();
    assert!(matches!(error, IdlError::Wrong { problem: Problem::Undefined(name), .. } if name == "b.T"));
    let error = Loader::new().load(folder.0.join("twice.thrift")).unwrap_err();
    assert!(matches!(error, IdlError::Wrong { problem: Problem::SameFileName(name), .. } if name == "b"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,64}") {
        let _ = Loader::new().parse("it", &text);
    }

    #[test]
    fn any_order_of_tokens_is_read_or_refused(tokens in prop::collection::vec(prop::sample::select(vec![
        "struct", "enum", "service", "const", "typedef", "union", "extends", "throws", "oneway", "void", "i32", "list", "map", "A", "B",
        "A.B", "1", "-1", "1.5", "\"x\"", "{", "}", "(", ")", "<", ">", "[", "]", ",", ";", ":", "=", "required", "// x\n", "/* x */",
    ]), 0..32)) {
        let _ = Loader::new().parse("it", &tokens.join(" "));
    }
}
