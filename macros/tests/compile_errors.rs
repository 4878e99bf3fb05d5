//! What is wrong with a trait is said at the place where it is.
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

/// What the compiler says of a program in `tests/ui`, without the last line, which counts the errors.
fn errors(program: &Path) -> String {
    let output = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["--edition=2024", "--crate-type=bin", "--emit=metadata=/dev/null", "--color=never"])
        .args(["--cap-lints=allow", "--extern"])
        .arg(format!("callosum_macros={}", library().display()))
        .arg(Path::new("tests/ui").join(program.file_name().expect("a file has a name")))
        .output()
        .expect("there is a compiler");
    let said = String::from_utf8(output.stderr).expect("it is text");
    assert!(!output.status.success(), "{} compiles\n{said}", program.display());
    let (errors, _) = said.split_once("\nerror: aborting due to ").unwrap_or_else(|| panic!("{said}"));
    errors.to_owned()
}

#[test]
fn errors_are_where_the_mistake_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ui");
    let files = folder.read_dir().expect("it can be read").map(|entry| entry.expect("it can be read").path());
    let programs: Vec<_> = files.filter(|path| path.extension().is_some_and(|it| it == "rs")).collect();
    assert!(!programs.is_empty(), "there is nothing in {}", folder.display());
    for program in programs {
        let expected = program.with_extension("stderr");
        let expected =
            std::fs::read_to_string(&expected).unwrap_or_else(|e| panic!("{}: {e}", expected.display()));
        let said = errors(&program);
        assert!(said == expected, "{}: the compiler says\n{said}", program.display());
    }
}
