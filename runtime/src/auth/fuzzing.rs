//! Body of the fuzz target `authenticator`: untrusted keys, key files and directories.

#![cfg(unix)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::allow_list::AllowList;
use super::allow_list::files::{Users, parse};
use super::{CurveKeyPair, CurvePublicKey, load_keys, load_public_key};

/// As much of a key's file is read.
const MAX_FILE: usize = 1_024;
const MAX_ENTRIES: usize = 4;
/// Two that are good, and one of low order, which is not.
const KEYS: [&str; 3] = [
    "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7",
    "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID",
    "0000000000000000000000000000000000000000",
];

/// The first byte says what is read: texts of keys, a list of allowed keys, a directory of them, or a secret key's file.
///
/// # Panics
/// If something is read as what it does not say.
pub fn authenticator(data: &[u8]) {
    let Some((&choice, mut input)) = data.split_first() else { return };
    match choice % 4 {
        0 => key(&text(&mut input)),
        1 => list(&text(&mut input)),
        2 => directory(&mut input),
        _ => secret_file(&text(&mut input)),
    }
}

fn byte(input: &mut &[u8]) -> Option<u8> {
    let (first, rest) = input.split_first()?;
    *input = rest;
    Some(*first)
}

fn bytes<'a>(input: &mut &'a [u8]) -> &'a [u8] {
    let len = byte(input).map_or(0, usize::from);
    let (bytes, rest) = input.split_at(len.min(input.len()));
    *input = rest;
    bytes
}

/// A text in which there are keys and what separates them, so that they need not be guessed.
fn text(input: &mut &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    while let Some(piece) = byte(input) {
        match piece % 16 {
            0 => break,
            1 => text.push(b'\n'),
            2 => text.push(b' '),
            3 => text.push(b'#'),
            4 => text.extend_from_slice(b"\xEF\xBB\xBF"),
            5 => text.extend_from_slice("\u{2003}\r".as_bytes()),
            6 => text.resize(text.len() + MAX_FILE / 4, b' '),
            7..10 => text.extend_from_slice(bytes(input)),
            _ => text.extend_from_slice(KEYS[usize::from(piece) / 16 % KEYS.len()].as_bytes()),
        }
    }
    text
}

/// Each key has one spelling, and text of another length is no key.
fn key(text: &[u8]) {
    if let Some(bytes) = text.first_chunk() {
        match CurvePublicKey::from_bytes(*bytes) {
            Ok(key) => assert_eq!(key.to_string().parse(), Ok(key)),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let keys = CurveKeyPair::generate(*bytes);
        let again = CurveKeyPair::from_secret_z85(&keys.secret_z85()).expect("its own text");
        assert_eq!(*again.secret_z85(), *keys.secret_z85());
        assert!(CurvePublicKey::from_bytes(*keys.public().as_bytes()).is_ok(), "a public key of somebody");
    }
    let Ok(text) = str::from_utf8(text) else { return };
    if let Ok(key) = text.parse::<CurvePublicKey>() {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(keys) = CurveKeyPair::from_secret_z85(text) {
        assert_eq!(*keys.secret_z85(), text);
    }
}

fn names(users: &Users) -> BTreeMap<String, String> {
    users.iter().map(|(key, user)| (key.to_string(), user.user_id.clone())).collect()
}

/// Each line by itself, as the docs of [`AllowList`] have it, word by word.
fn list(text: &[u8]) {
    let mut users = Users::new();
    let problems: Vec<_> = parse(text, &mut users).into_iter().map(|(line, _)| line).collect();
    let (mut expected, mut wrong) = (BTreeMap::<String, Vec<&str>>::new(), Vec::new());
    let text = text.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(text);
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let Ok(line) = str::from_utf8(line) else {
            wrong.push(at + 1);
            continue;
        };
        let mut words = line.split_whitespace().take_while(|word| !word.starts_with('#'));
        let Some(key) = words.next() else { continue };
        if key.parse::<CurvePublicKey>().is_err() || expected.contains_key(key) {
            wrong.push(at + 1);
            continue;
        }
        let user: Vec<_> = words.collect();
        expected.insert(key.to_owned(), if user.is_empty() { vec![key] } else { user });
    }
    assert_eq!(problems, wrong);
    let found = names(&users);
    assert!(found.keys().eq(expected.keys()), "{found:?} instead of {expected:?}");
    for (key, user) in &found {
        assert!(user.trim() == user && user.split_whitespace().eq(expected[key].iter().copied()), "{user:?}");
    }
}

/// A temporary directory, removed when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let root = std::env::temp_dir().join(format!("callosum-fuzz-{}", std::process::id()));
        // Left by an input that failed.
        let _ = fs::remove_dir_all(&root);
        fs::create_dir(&root).expect("a directory of one's own");
        Self(root)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The entries of a directory, by path.
type Entries = BTreeMap<PathBuf, Option<Vec<u8>>>;

fn directory(input: &mut &[u8]) {
    let scratch = Scratch::new();
    let mut entries = Entries::new();
    for _ in 0..MAX_ENTRIES {
        let Some(kind) = byte(input) else { break };
        let Some(name) = file_name(bytes(input), kind & 4 == 0) else { continue };
        let path = scratch.0.join(OsStr::from_bytes(&name));
        if let Entry::Vacant(entry) = entries.entry(path) {
            let content = put(entry.key(), kind, || text(input));
            entry.insert(content);
        }
    }
    let keys = CurveKeyPair::generate([1; 32]);
    let list = AllowList::open(keys, &scratch.0).expect("a directory that can be read");
    assert_eq!(names(&list.set.users()), admitted(&entries));
    // Remove one entry: its key is revoked at the second check, or at the second change.
    if let Some((path, _)) = entries.pop_first() {
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir(&path).expect("it is empty");
        } else {
            fs::remove_file(&path).expect("it is there");
        }
        list.look();
        list.look();
        assert_eq!(names(&list.set.users()), admitted(&entries));
    }
}

/// A name that a file can have.
fn file_name(bytes: &[u8], public: bool) -> Option<Vec<u8>> {
    let mut name: Vec<u8> =
        bytes.iter().map(|byte| if matches!(byte, 0 | b'/') { b'_' } else { *byte }).collect();
    name.truncate(200);
    if public {
        name.extend_from_slice(b".pub");
    }
    (!matches!(&name[..], b"" | b"." | b"..")).then_some(name)
}

/// What can be read of what was put there.
fn put(path: &Path, kind: u8, text: impl FnOnce() -> Vec<u8>) -> Option<Vec<u8>> {
    match kind & 3 {
        0 => {
            fs::create_dir(path).expect("a new directory");
            None
        }
        1 => {
            symlink(path, path).expect("a new link");
            None
        }
        _ => {
            let text = text();
            fs::write(path, &text).expect("a new file");
            let key = load_public_key(path);
            assert_eq!(key.ok(), line(&text).and_then(|text| text.parse().ok()));
            Some(text)
        }
    }
}

/// The one line of a file that holds a key.
fn line(text: &[u8]) -> Option<&str> {
    let text = str::from_utf8(&text[..text.len().min(MAX_FILE)]).ok()?;
    Some(text.strip_prefix('\u{FEFF}').unwrap_or(text).trim())
}

/// Whom a directory admits: the first of those that have the same key.
fn admitted(entries: &Entries) -> BTreeMap<String, String> {
    let mut users = BTreeMap::new();
    for (path, content) in entries {
        let name = path.file_name().expect("it has one").as_bytes();
        let user = name.strip_suffix(b".pub").filter(|user| !user.is_empty()).map(str::from_utf8);
        let key = content.as_deref().and_then(line).filter(|text| text.parse::<CurvePublicKey>().is_ok());
        if let (Some(Ok(user)), Some(key)) = (user, key) {
            users.entry(key.to_owned()).or_insert_with(|| user.to_owned());
        }
    }
    users
}

fn secret_file(text: &[u8]) {
    let scratch = Scratch::new();
    let path = scratch.0.join("secret");
    fs::write(&path, text).expect("a new file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let expected = line(text).and_then(|text| CurveKeyPair::from_secret_z85(text).ok());
    match load_keys(&path) {
        Ok(keys) => assert_eq!(Some(keys.public()), expected.map(|keys| keys.public())),
        Err(error) => {
            assert!(expected.is_none(), "{error}");
            let text = String::from_utf8_lossy(text);
            let shown = format!("{error} {error:?}");
            // Words that an error may have of itself are shorter.
            assert!(text.split_whitespace().all(|word| word.len() < 30 || !shown.contains(word)), "{shown}");
        }
    }
}
