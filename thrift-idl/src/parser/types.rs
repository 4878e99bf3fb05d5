//! Types and constants, which may be in each other.

use super::{MAX_DEPTH, Parser, Result};
use crate::error::Problem;
use crate::lexer::Token;
use crate::model::{Name, Reference, Type, Value};

impl Parser {
    pub(super) fn ty(&mut self, depth: usize) -> Result<Type> {
        if depth == MAX_DEPTH {
            return Err((self.position(), Problem::TooDeep));
        }
        let position = self.position();
        let word = self.word("a type")?;
        let ty = match &*word {
            "bool" => Type::Bool,
            "byte" | "i8" => Type::I8,
            "i16" => Type::I16,
            "i32" => Type::I32,
            "i64" => Type::I64,
            "double" => Type::Double,
            "string" | "slist" => Type::String,
            "binary" => Type::Binary,
            "uuid" => Type::Uuid,
            "list" => Type::List(Box::new(self.parameters(depth, 1)?.0)),
            "set" => Type::Set(Box::new(self.parameters(depth, 1)?.0)),
            "map" => {
                let (key, value) = self.parameters(depth, 2)?;
                Type::Map(Box::new(key), Box::new(value.unwrap_or(Type::Bool)))
            }
            _ => Type::Named(Reference { name: word, position, target: None }),
        };
        self.annotations()?;
        Ok(ty)
    }

    /// One or two types in angle brackets.
    fn parameters(&mut self, depth: usize, count: usize) -> Result<(Type, Option<Type>)> {
        if self.took_word("cpp_type") {
            self.text()?;
        }
        self.symbol('<', "`<`")?;
        let first = self.ty(depth + 1)?;
        let second = match count {
            1 => None,
            _ => {
                self.symbol(',', "`,`")?;
                Some(self.ty(depth + 1)?)
            }
        };
        self.symbol('>', "`>`")?;
        if self.took_word("cpp_type") {
            self.text()?;
        }
        Ok((first, second))
    }

    pub(super) fn value(&mut self, depth: usize) -> Result<Value> {
        if depth == MAX_DEPTH {
            return Err((self.position(), Problem::TooDeep));
        }
        let position = self.position();
        match self.peek().clone() {
            Token::Int(number) => {
                self.take();
                Ok(Value::Int(number))
            }
            Token::Double(number) => {
                self.take();
                Ok(Value::Double(number))
            }
            Token::Text(text) => {
                self.take();
                Ok(Value::Text(text))
            }
            Token::Word(word) => {
                self.take();
                Ok(match &*word {
                    "true" => Value::Bool(true),
                    "false" => Value::Bool(false),
                    _ => Value::Named(Name {
                        reference: Reference { name: word, position, target: None },
                        value: None,
                    }),
                })
            }
            Token::Symbol('[') => {
                self.take();
                let mut items = Vec::new();
                while !self.took(']') {
                    items.push(self.value(depth + 1)?);
                    self.separator();
                }
                Ok(Value::List(items))
            }
            Token::Symbol('{') => {
                self.take();
                let mut entries = Vec::new();
                while !self.took('}') {
                    let key = self.value(depth + 1)?;
                    self.symbol(':', "`:`")?;
                    entries.push((key, self.value(depth + 1)?));
                    self.separator();
                }
                Ok(Value::Map(entries))
            }
            _ => self.unexpected("a constant"),
        }
    }
}
