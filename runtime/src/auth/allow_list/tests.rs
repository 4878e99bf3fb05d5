use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;

use super::files::parse;
use super::*;
use crate::auth::key_file::open_regular;
use crate::auth::scratch::Scratch;
use crate::auth::{Identity, generate_keys};
use crate::os::is_of_the_file;

const FIRST: &str = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7";
const SECOND: &str = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";

fn users(text: impl AsRef<[u8]>) -> (Vec<(String, String)>, Vec<usize>) {
    let mut users = Users::new();
    let problems = parse(text.as_ref(), &mut users);
    let users = users.into_iter().map(|(key, user)| (key.to_string(), user.user_id)).collect();
    (users, problems.into_iter().map(|(line, _)| line).collect())
}

#[test]
fn lines() {
    let text = format!(
        "# who may come in\n\n{FIRST} alice\n\t{SECOND}   Bob B.#1  # since May\r\n#{FIRST} eve\n# {FIRST} eve\n"
    );
    let (users, problems) = users(&text);
    let expected = [(SECOND, "Bob B.#1"), (FIRST, "alice")];
    let expected = expected.map(|(key, user)| (key.to_owned(), user.to_owned()));
    assert_eq!(users.len(), 2);
    assert!(expected.iter().all(|user| users.contains(user)), "{users:?}");
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn a_key_alone_is_its_own_user() {
    for text in [FIRST.to_owned(), format!("{FIRST} \n"), format!("{FIRST} # alice")] {
        assert_eq!(users(&text), (vec![(FIRST.to_owned(), FIRST.to_owned())], vec![]));
    }
}

#[test]
fn bad_lines_are_passed_over() {
    let text =
        format!("alice\n{FIRST}x alice\n{FIRST} alice\n{FIRST} bob\n{} zero\n\u{FFFD}", "0".repeat(40));
    assert_eq!(users(&text), (vec![(FIRST.to_owned(), "alice".to_owned())], vec![1, 2, 4, 5, 6]));
}

#[test]
fn directory() {
    let scratch = Scratch::new();
    let keys = generate_keys();
    scratch.write("alice.pub", &format!("{FIRST}\n"));
    scratch.write("bob.pub", "not a key");
    scratch.write("eve", SECOND);
    scratch.write("twice.pub", FIRST);
    let list = AllowList::open(keys, scratch.root()).unwrap();
    let users = |list: &AllowList| list.set.users();
    assert_eq!(users(&list), [(FIRST.parse().unwrap(), Identity::new("alice"))].into());
    scratch.write("bob.pub", SECOND);
    fs::remove_file(scratch.path("alice.pub")).unwrap();
    fs::remove_file(scratch.path("twice.pub")).unwrap();
    list.reload().unwrap();
    assert_eq!(users(&list), [(SECOND.parse().unwrap(), Identity::new("bob"))].into());
}

#[test]
fn what_can_be_read_no_longer_holds_on() {
    let scratch = Scratch::new();
    let path = scratch.write("allowed", FIRST);
    let list = AllowList::open(generate_keys(), &path).unwrap();
    fs::remove_file(&path).unwrap();
    list.reload().unwrap_err();
    list.look();
    list.look();
    assert_eq!(list.len(), 1);
    AllowList::open(generate_keys(), &path).unwrap_err();
}

#[test]
fn a_change_is_read_when_it_is_over() {
    let scratch = Scratch::new();
    let path = scratch.write("allowed", FIRST);
    let list = AllowList::open(generate_keys(), &path).unwrap();
    list.look();
    list.look();
    assert!(list.progress.lock().read.is_some());
    scratch.write("allowed", "");
    list.look();
    assert_eq!(list.len(), 1, "the writer may not be done");
    scratch.write("allowed", &format!("{FIRST}\n{SECOND}\n"));
    list.look();
    assert_eq!(list.len(), 1);
    list.look();
    assert_eq!(list.len(), 2);
}

#[test]
fn texts_of_other_encodings() {
    let alice = vec![(FIRST.to_owned(), "alice".to_owned())];
    assert_eq!(users(format!("\u{FEFF}{FIRST} alice\r\n")), (alice, vec![]));
    let not_utf8 = [FIRST.as_bytes(), b" ali\xE7e\n", SECOND.as_bytes(), b" ali\xE8e\n"].concat();
    assert_eq!(users(not_utf8), (vec![], vec![1, 2]), "they could pass for the same user");
}

#[test]
fn what_is_no_file_of_a_user_is_passed_over() {
    let scratch = Scratch::new();
    scratch.write("alice.pub", FIRST);
    fs::create_dir(scratch.path("directory.pub")).unwrap();
    let pipe = scratch.path("pipe.pub");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let not_utf8 = scratch.root().join(OsStr::from_bytes(b"b\xFFb.pub"));
    fs::write(not_utf8, SECOND).unwrap();
    let list = AllowList::open(generate_keys(), scratch.root()).unwrap();
    assert_eq!(list.set.users(), [(FIRST.parse().unwrap(), Identity::new("alice"))].into());
    let error = AllowList::open(generate_keys(), pipe).unwrap_err();
    assert!(error.to_string().ends_with("not a regular file"), "{error}");
}

#[test]
fn one_file_that_cannot_be_read_does_not_keep_the_others_admitted() {
    let scratch = Scratch::new();
    let alice = scratch.write("alice.pub", FIRST);
    std::os::unix::fs::symlink("loop.pub", scratch.path("loop.pub")).unwrap();
    let list = AllowList::open(generate_keys(), scratch.root()).unwrap();
    assert_eq!(list.len(), 1);
    fs::remove_file(alice).unwrap();
    list.look();
    list.look();
    assert!(list.is_empty());
}

#[test]
fn what_the_system_fails_at_is_nothing_of_the_files() {
    let (of_the_file, of_the_system) = (
        [Errno::ACCESS, Errno::LOOP, Errno::NXIO],
        [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO, Errno::STALE, Errno::INTR],
    );
    assert!(of_the_file.into_iter().all(|error| is_of_the_file(&error.into())));
    assert!(!of_the_system.into_iter().any(|error| is_of_the_file(&error.into())));
    assert!(is_of_the_file(&open_regular(Path::new("/")).unwrap_err()), "it is not a regular file");
}

/// Another binder's look, a moment after the first, does not take a file that is being written.
#[test]
fn binders_that_share_a_list_look_in_turn() {
    let scratch = Scratch::new();
    let path = scratch.write("allowed", FIRST);
    let list = AllowList::open(generate_keys(), &path).unwrap().interval(Duration::from_secs(3_600));
    let other = list.clone();
    scratch.write("allowed", "");
    list.look_if_due(Instant::now);
    assert!(list.progress.lock().last.is_some(), "it was looked at");
    other.look_if_due(Instant::now);
    list.look_if_due(Instant::now);
    assert_eq!(list.len(), 1, "the writer may not be done");
    list.progress.lock().looked = None;
    other.look_if_due(Instant::now);
    assert!(list.is_empty());
}

#[test]
fn a_file_that_never_rests_revokes_all_the_same() {
    let scratch = Scratch::new();
    let path = scratch.write("allowed", &format!("{FIRST} alice\n{SECOND} bob\n"));
    let list = AllowList::open(generate_keys(), &path).unwrap();
    let mut text = format!("{SECOND} eve\n");
    for _ in 0..RETRIES + 1 {
        assert_eq!(list.len(), 2);
        text.push_str("# more\n");
        fs::write(&path, &text).unwrap();
        list.look();
    }
    let bob = (SECOND.parse().unwrap(), Identity::new("bob"));
    assert_eq!(list.set.users(), [bob.clone()].into(), "who is renamed may not be written to the end");
    list.look();
    assert_eq!(list.set.users(), [(bob.0, Identity::new("eve"))].into());
}
