//! The content of the files, public keys and the names of their users; and stamps that show whether a file has changed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::FileStamp;
use crate::auth::key_file::{KeyFileError, open_regular, read_public_key};
use crate::auth::{CurvePublicKey, Identity};
use crate::os::is_of_the_file;

/// Admitted users, by key.
pub(in crate::auth) type Users = BTreeMap<CurvePublicKey, Identity>;

/// Shows whether a file has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Look {
    path: PathBuf,
    /// `None` if it can't be told.
    stamp: Option<FileStamp>,
}

/// The current stamps of the files.
pub(super) fn look_at(path: &Path) -> io::Result<Vec<Look>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![Look { path: path.to_owned(), stamp: Some(FileStamp::of(path)?) }]);
    }
    // A file whose metadata can't be read admits no key; the others still count.
    let look = |path| Look { stamp: FileStamp::of(&path).ok(), path };
    Ok(key_files(path)?.into_iter().map(look).collect())
}

/// The `*.pub` of a directory, in the order of their names.
fn key_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pub") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Part of the files that was passed over.
#[derive(Debug)]
pub(super) struct Problem {
    path: PathBuf,
    /// `None` if it is the whole file.
    line: Option<usize>,
    problem: String,
}

impl Problem {
    /// Not to be done under a lock: subscribers are the application's.
    pub(super) fn log(self) {
        let Self { path, line, problem } = self;
        match line {
            Some(line) => {
                tracing::warn!(path = %path.display(), line, problem, "line of allowed keys passed over");
            }
            None => tracing::warn!(path = %path.display(), problem, "file of an allowed key passed over"),
        }
    }
}

/// Reads the users of the files, and adds what was passed over to the problems.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> io::Result<Users> {
    let mut users = Users::new();
    if fs::metadata(path)?.is_dir() {
        for file in key_files(path)? {
            problems.extend(read_one(&file, &mut users)?);
        }
        return Ok(users);
    }
    let mut text = Vec::new();
    open_regular(path)?.read_to_end(&mut text)?;
    let mistakes = parse(&text, &mut users).into_iter();
    problems.extend(mistakes.map(|(line, problem)| Problem {
        path: path.to_owned(),
        line: Some(line),
        problem,
    }));
    Ok(users)
}

/// A file of a directory; one that is gone by now is no longer in it. What the system fails at says nothing of the file.
fn read_one(file: &Path, users: &mut Users) -> io::Result<Option<Problem>> {
    let key = open_regular(file)
        .map_err(|error| KeyFileError::Io { path: file.to_owned(), error })
        .and_then(|open| read_public_key(file, open));
    let problem = match (key, file.file_stem().and_then(OsStr::to_str)) {
        (Ok(key), _) if users.contains_key(&key) => String::from("the key is in another file already"),
        (Ok(key), Some(name)) => {
            users.insert(key, Identity::new(name));
            return Ok(None);
        }
        // Two of them could pass for the same user.
        (Ok(_), None) => String::from("the name is not UTF-8"),
        (Err(KeyFileError::Io { error, .. }), _) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        (Err(KeyFileError::Io { error, .. }), _) if !is_of_the_file(&error) => return Err(error),
        (Err(error), _) => error.to_string(),
    };
    Ok(Some(Problem { path: file.to_owned(), line: None, problem }))
}

/// Adds the valid lines to the users. Returns the mistakes with their line numbers, counted from 1.
pub(in crate::auth) fn parse(text: &[u8], users: &mut Users) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let Ok(line) = str::from_utf8(line) else {
            // Two of them could pass for the same user.
            problems.push((at + 1, String::from("not UTF-8")));
            continue;
        };
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match word.parse::<CurvePublicKey>() {
            Ok(key) if users.contains_key(&key) => {
                problems.push((at + 1, String::from("the key stands further up already")));
            }
            Ok(key) => {
                users.insert(key, Identity::new(user_id(rest).unwrap_or_else(|| key.to_string())));
            }
            Err(error) => problems.push((at + 1, error.to_string())),
        }
    }
    problems
}

/// The rest of a line after its key, without the comment.
fn user_id(rest: &str) -> Option<String> {
    let rest = rest.trim_start();
    let comment = rest.char_indices().find(|(at, character)| {
        *character == '#' && !rest[..*at].ends_with(|before: char| !before.is_whitespace())
    });
    let user = comment.map_or(rest, |(at, _)| &rest[..at]).trim_end();
    (!user.is_empty()).then(|| user.to_owned())
}
