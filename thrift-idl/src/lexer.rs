//! Text to tokens.
//!
//! The idea: comments are no tokens, but those that stand right before a token are kept with it, for they are the docs of what it begins.

use std::iter::Peekable;
use std::str::Chars;

use crate::error::{Position, Problem};

/// A token of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A name or a keyword, with its dots.
    Word(String),
    /// An integer.
    Int(i64),
    /// Any other number.
    Double(f64),
    /// A text in quotes.
    Text(String),
    /// One of `{}()[]<>,;:=*&`.
    Symbol(char),
    /// There is no more.
    End,
}

impl Token {
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Int(number) => number.to_string(),
            Self::Double(number) => number.to_string(),
            Self::Text(text) => format!("{text:?}"),
            Self::Symbol(symbol) => format!("`{symbol}`"),
            Self::End => "the end of the file".into(),
        }
    }
}

/// A token and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Lexeme {
    pub(crate) token: Token,
    pub(crate) position: Position,
    /// The comments between it and the token before, without their marks.
    pub(crate) docs: String,
}

/// Splits a file into tokens. The last one is [`Token::End`].
pub(crate) fn lex(text: &str) -> Result<Vec<Lexeme>, (Position, Problem)> {
    let mut lexer = Lexer { rest: text.chars().peekable(), at: Position { line: 1, column: 1 } };
    let mut lexemes = Vec::new();
    loop {
        let docs = lexer.comments()?;
        let position = lexer.at;
        let token = lexer.token().map_err(|problem| (position, problem))?;
        let ended = token == Token::End;
        lexemes.push(Lexeme { token, position, docs });
        if ended {
            return Ok(lexemes);
        }
    }
}

struct Lexer<'a> {
    rest: Peekable<Chars<'a>>,
    at: Position,
}

impl Lexer<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        match next {
            '\n' => self.at = Position { line: self.at.line + 1, column: 1 },
            _ => self.at.column += 1,
        }
        Some(next)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(&next) = self.rest.peek()
            && wanted(next)
        {
            taken.push(next);
            self.next();
        }
        taken
    }

    /// Skips blanks and comments, and returns the text of those that belong to the next token: not what ends the line of the token before,
    /// nor what has an empty line behind it.
    fn comments(&mut self) -> Result<String, (Position, Problem)> {
        let mut docs = Vec::new();
        let mut is_first_line = self.at.line > 1 || self.at.column > 1;
        loop {
            let blank = self.take_while(char::is_whitespace);
            let lines = blank.matches('\n').count();
            if lines > 1 || (lines == 1 && is_first_line) {
                docs.clear();
            }
            is_first_line &= lines == 0;
            let position = self.at;
            match self.rest.peek() {
                Some('#') => {
                    self.next();
                    docs.push(self.take_while(|next| next != '\n'));
                }
                Some('/') => {
                    self.next();
                    match self.next() {
                        Some('/') => {
                            let line = self.take_while(|next| next != '\n');
                            docs.push(line.strip_prefix('/').unwrap_or(&line).to_owned());
                        }
                        Some('*') => docs.extend(self.block().map_err(|problem| (position, problem))?),
                        _ => return Err((position, Problem::Character('/'))),
                    }
                }
                _ => break,
            }
        }
        let lines: Vec<_> = docs.iter().map(|line| line.trim()).collect();
        Ok(lines.join("\n").trim().to_owned())
    }

    /// The lines of a comment that has begun with `/*`.
    fn block(&mut self) -> Result<Vec<String>, Problem> {
        let mut text = String::new();
        while !text.ends_with("*/") {
            text.push(self.next().ok_or(Problem::Unterminated)?);
        }
        let text = text.trim_end_matches('/').trim_end_matches('*');
        Ok(text
            .trim_start_matches('*')
            .lines()
            .map(|line| line.trim().trim_start_matches('*').to_owned())
            .collect())
    }

    fn token(&mut self) -> Result<Token, Problem> {
        match self.rest.peek().copied() {
            None => Ok(Token::End),
            Some(first) if first.is_ascii_alphabetic() || first == '_' => Ok(Token::Word(
                self.take_while(|next| next.is_ascii_alphanumeric() || matches!(next, '_' | '.')),
            )),
            Some(first) if first.is_ascii_digit() || matches!(first, '+' | '-' | '.') => self.number(),
            Some(quote @ ('"' | '\'')) => {
                self.next();
                self.text(quote)
            }
            Some(symbol) if "{}()[]<>,;:=*&".contains(symbol) => {
                self.next();
                Ok(Token::Symbol(symbol))
            }
            Some(other) => Err(Problem::Character(other)),
        }
    }

    fn number(&mut self) -> Result<Token, Problem> {
        let mut text = String::new();
        while let Some(&next) = self.rest.peek() {
            let is_sign = matches!(next, '+' | '-') && (text.is_empty() || text.ends_with(['e', 'E']));
            if !is_sign && !next.is_ascii_alphanumeric() && next != '.' {
                break;
            }
            text.push(next);
            self.next();
        }
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(&text)),
        };
        let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hex) => i128::from_str_radix(hex, 16).ok(),
            None => digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten(),
        };
        if let Some(number) = number {
            let number = i64::try_from(if negative { -number } else { number });
            return number.map(Token::Int).map_err(|_| Problem::Number(text));
        }
        let is_decimal = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
        match text.parse::<f64>() {
            Ok(number) if is_decimal && number.is_finite() => Ok(Token::Double(number)),
            _ => Err(Problem::Number(text)),
        }
    }

    fn text(&mut self, quote: char) -> Result<Token, Problem> {
        let mut text = String::new();
        loop {
            match self.next().ok_or(Problem::Unterminated)? {
                end if end == quote => return Ok(Token::Text(text)),
                '\\' => text.push(match self.next().ok_or(Problem::Unterminated)? {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                }),
                other => text.push(other),
            }
        }
    }
}
