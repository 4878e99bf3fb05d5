//! Errors in files, with their positions.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A place in a file. Lines and columns count from 1; columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The character in it.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdlError {
    /// There is none.
    #[error("there is no file to read")]
    NoFile,
    /// The file can't be read.
    #[error("can't read {}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The file has a mistake.
    #[error("{}:{position}: {problem}", .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Where in it.
        position: Position,
        /// The mistake.
        problem: Problem,
    },
}

/// A mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A character that begins no token.
    #[error("unexpected character {0:?}")]
    Character(char),
    /// A text or a comment without an end.
    #[error("this is not terminated")]
    Unterminated,
    /// A number that is out of range.
    #[error("the number {0} is out of range")]
    Number(String),
    /// Another token than those that can stand here.
    #[error("expected {expected}, found {found}")]
    Token {
        /// What can stand here.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// Types or constants in each other, more than 64 deep.
    #[error("this nests more than 64 levels deep")]
    TooDeep,
    /// More than 1,000 files.
    #[error("more than 1,000 files are included")]
    TooManyFiles,
    /// An include that is not beside the file nor in a folder of includes.
    #[error("there is no file {0}")]
    NoSuchInclude(String),
    /// A file includes two files with the same name, which stands before the names of what is in them.
    #[error("two files named {0} are included here: names in them can't be told apart")]
    SameFileName(String),
    /// Something that is not defined.
    #[error("{0} is not defined")]
    Undefined(String),
    /// Something that is defined as another kind of thing.
    #[error("{name} is not {expected}")]
    WrongKind {
        /// What was named.
        name: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A name or a number that is taken.
    #[error("{0} is defined twice")]
    Duplicate(String),
    /// A definition that is part of itself.
    #[error("{0} is defined in terms of itself")]
    Cycle(String),
    /// A oneway function with a result or exceptions.
    #[error("the oneway function {0} can't return or throw anything")]
    Oneway(String),
    /// A field of a union that is required or has a default.
    #[error("the field {0} of a union can be neither required nor have a default")]
    UnionField(String),
}
