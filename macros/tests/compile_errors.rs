//! What is wrong with a trait is said at the place where it is, and the generated code names an adapter that is a dependency.
//!
//! The compiler is called with the macro as cargo has built it for this test: a project of its own for each mistake would compile
//! all that the macro depends on once more.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library of the macro: the one that was compiled last, if there are more.
fn library() -> PathBuf {
    let test = env::current_exe().expect("a test is a program");
    let folder = test.parent().expect("a program is in a folder");
    let prefix = format!("{}callosum_macros-", env::consts::DLL_PREFIX);
    let libraries = folder.read_dir().expect("it can be read").map(|entry| entry.expect("it can be read"));
    libraries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .filter(|entry| {
            entry.path().extension().is_some_and(|extension| extension == env::consts::DLL_EXTENSION)
        })
        .max_by_key(|entry| entry.metadata().and_then(|it| it.modified()).expect("it can be read"))
        .unwrap_or_else(|| panic!("{} holds no {prefix}*", folder.display()))
        .path()
}

/// What the compiler says of a program in `folder`, whose package has its manifest in `package`, without the last line, which counts
/// the errors.
fn errors(folder: &Path, program: &Path, package: &Path) -> String {
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .current_dir(folder)
        .args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "--color=never"])
        .args(["--out-dir", env!("CARGO_TARGET_TMPDIR")])
        // The macro asks for the name that the async API has there.
        .env("CARGO_MANIFEST_DIR", package)
        .env("CARGO_PKG_NAME", "callosum-program")
        .args(["--cap-lints=allow", "--extern"])
        .arg(format!("callosum_macros={}", library().display()))
        .arg(program)
        .output()
        .expect("there is a compiler");
    let said = String::from_utf8(output.stderr).expect("it is text");
    assert!(!output.status.success(), "{} compiles\n{said}", program.display());
    let (errors, _) = said.split_once("\nerror: aborting due to ").unwrap_or_else(|| panic!("{said}"));
    errors.to_owned()
}

#[test]
fn errors_are_where_the_mistake_is() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = package.join("tests/ui");
    let files = folder.read_dir().expect("it can be read").map(|entry| entry.expect("it can be read").path());
    let programs: Vec<_> = files.filter(|path| path.extension().is_some_and(|it| it == "rs")).collect();
    assert!(!programs.is_empty(), "there is nothing in {}", folder.display());
    for program in programs {
        let expected = program.with_extension("stderr");
        let expected =
            std::fs::read_to_string(&expected).unwrap_or_else(|e| panic!("{}: {e}", expected.display()));
        let file = Path::new("tests/ui").join(program.file_name().expect("a file has a name"));
        let said = errors(package, &file, package);
        assert!(said == expected, "{}: the compiler says\n{said}", program.display());
    }
}

/// No dependency is compiled: that the program does not find it says which one the macro names.
#[test]
fn any_adapter_among_the_dependencies_is_found() {
    const NONE: &str = "error: no adapter of Callosum is among the dependencies";
    let cases = [
        ("alone", r#"callosum-fourth = "1""#, "`callosum_fourth`"),
        ("renamed", r#"rpc = { package = "callosum-fourth", version = "1" }"#, "`rpc`"),
        // Before it in the alphabet.
        ("beside_a_layer", "callosum-cli = \"1\"\ncallosum-fourth = \"1\"", "`callosum_fourth`"),
        ("beside_the_api", "callosum-fourth = \"1\"\ncallosum-runtime = \"1\"", "`callosum_runtime`"),
        ("layers_only", "callosum-hosts = \"1\"\ncallosum-tunnel = \"1\"", NONE),
        ("mentioned", "# callosum-fourth", NONE),
    ];
    for (name, dependencies, expected) in cases {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).expect("there is room");
        let manifest = format!("[package]\nname = \"callosum-program\"\n[dependencies]\n{dependencies}\n");
        std::fs::write(folder.join("Cargo.toml"), manifest).expect("there is room");
        let program = folder.join("program.rs");
        std::fs::write(&program, "#[callosum_macros::service]\ntrait Agent {}\nfn main() {}\n")
            .expect("there is room");
        let said = errors(&folder, &program, &folder);
        assert!(said.contains(expected), "{name}: the compiler says\n{said}");
    }
}
