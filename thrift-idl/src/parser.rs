//! Tokens to definitions, by recursive descent over the grammar of Apache Thrift's documentation ("Thrift interface description
//! language"). Names are not resolved here.
//!
//! Annotations, `cpp_include`, `namespace` and the old `xsd_` attributes say nothing to Rust: they are read and dropped.

mod types;

use crate::error::{Position, Problem};
use crate::lexer::{Lexeme, Token, lex};
use crate::model::{
    Definition, EnumValue, Field, Flavour, Function, Kind, Reference, Requiredness, Service, Struct,
};

/// Types and constants may be in each other so deep.
const MAX_DEPTH: usize = 64;

/// The parsed declarations of a file.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// Paths, and where they stand.
    pub(crate) includes: Vec<(String, Position)>,
    pub(crate) definitions: Vec<Definition>,
}

type Result<T> = std::result::Result<T, (Position, Problem)>;

pub(crate) fn parse(text: &str) -> Result<Parsed> {
    let mut parser = Parser { lexemes: lex(text)?, next: 0 };
    let mut parsed = Parsed { includes: Vec::new(), definitions: Vec::new() };
    while *parser.peek() != Token::End {
        parser.statement(&mut parsed)?;
    }
    Ok(parsed)
}

struct Parser {
    lexemes: Vec<Lexeme>,
    next: usize,
}

impl Parser {
    fn statement(&mut self, parsed: &mut Parsed) -> Result<()> {
        let docs = self.lexeme().docs.clone();
        let position = self.position();
        let keyword = self.word("a definition")?;
        let kind: fn(&mut Self) -> Result<Kind> = match &*keyword {
            "include" => {
                let position = self.position();
                parsed.includes.push((self.text()?, position));
                return Ok(());
            }
            "cpp_include" => return self.text().map(drop),
            "namespace" => return self.namespace(),
            "const" => return self.constant(docs, parsed),
            "typedef" => {
                let ty = self.ty(0)?;
                let (position, name) = self.name()?;
                self.annotations()?;
                self.separator();
                parsed.definitions.push(Definition { name, docs, position, kind: Kind::Typedef(ty) });
                return Ok(());
            }
            "enum" => Self::enumeration,
            "struct" => |parser: &mut Self| parser.structure(Flavour::Struct),
            "union" => |parser: &mut Self| parser.structure(Flavour::Union),
            "exception" => |parser: &mut Self| parser.structure(Flavour::Exception),
            "service" => Self::service,
            _ => {
                let found = Token::Word(keyword).describe();
                return Err((position, Problem::Token { expected: "a definition", found }));
            }
        };
        let (position, name) = self.name()?;
        let kind = kind(self)?;
        self.annotations()?;
        self.separator();
        parsed.definitions.push(Definition { name, docs, position, kind });
        Ok(())
    }

    fn namespace(&mut self) -> Result<()> {
        if !self.took('*') {
            self.word("a language")?;
        }
        self.word("a namespace")?;
        self.annotations()
    }

    fn constant(&mut self, docs: String, parsed: &mut Parsed) -> Result<()> {
        let ty = self.ty(0)?;
        let (position, name) = self.name()?;
        self.symbol('=', "`=`")?;
        let value = self.value(0)?;
        self.separator();
        parsed.definitions.push(Definition { name, docs, position, kind: Kind::Const(ty, value) });
        Ok(())
    }

    fn enumeration(&mut self) -> Result<Kind> {
        let mut values: Vec<EnumValue> = Vec::new();
        self.symbol('{', "`{`")?;
        while !self.took('}') {
            let docs = self.lexeme().docs.clone();
            let (position, name) = self.name()?;
            let number = match self.took('=') {
                true => self.int()?,
                false => values.last().map_or(0, |last| i64::from(last.number) + 1),
            };
            let number =
                i32::try_from(number).map_err(|_| (position, Problem::Number(number.to_string())))?;
            self.annotations()?;
            self.separator();
            if values.iter().any(|value| value.name == name) {
                return Err((position, Problem::Duplicate(name)));
            }
            values.push(EnumValue { name, number, docs });
        }
        Ok(Kind::Enum(values))
    }

    fn structure(&mut self, flavour: Flavour) -> Result<Kind> {
        if let Token::Word(word) = self.peek()
            && word == "xsd_all"
        {
            self.take();
        }
        self.symbol('{', "`{`")?;
        let fields = self.fields('}')?;
        if flavour == Flavour::Union {
            let wrong = fields
                .iter()
                .find(|field| field.requiredness == Requiredness::Required || field.default.is_some());
            if let Some(field) = wrong {
                return Err((field.position, Problem::UnionField(field.name.clone())));
            }
        }
        Ok(Kind::Struct(Struct { flavour, fields }))
    }

    fn service(&mut self) -> Result<Kind> {
        let extends = match self.peek() {
            Token::Word(word) if word == "extends" => {
                self.take();
                Some(self.reference()?)
            }
            _ => None,
        };
        self.symbol('{', "`{`")?;
        let mut functions: Vec<Function> = Vec::new();
        while !self.took('}') {
            let function = self.function()?;
            if functions.iter().any(|other| other.name == function.name) {
                return Err((function.position, Problem::Duplicate(function.name)));
            }
            functions.push(function);
        }
        Ok(Kind::Service(Service { extends, functions }))
    }

    fn function(&mut self) -> Result<Function> {
        let docs = self.lexeme().docs.clone();
        let oneway = self.took_word("oneway");
        let result = match self.took_word("void") {
            true => None,
            false => Some(self.ty(0)?),
        };
        let (position, name) = self.name()?;
        self.symbol('(', "`(`")?;
        let arguments = self.fields(')')?;
        let mut throws = Vec::new();
        if self.took_word("throws") {
            self.symbol('(', "`(`")?;
            throws = self.fields(')')?;
        }
        self.annotations()?;
        self.separator();
        if oneway && (result.is_some() || !throws.is_empty()) {
            return Err((position, Problem::Oneway(name)));
        }
        Ok(Function { name, oneway, result, arguments, throws, docs, position })
    }

    /// Fields until this symbol.
    fn fields(&mut self, end: char) -> Result<Vec<Field>> {
        let mut fields: Vec<Field> = Vec::new();
        let mut implicit = 0;
        while !self.took(end) {
            let field = self.field(&mut implicit)?;
            if let Some(other) = fields.iter().find(|other| other.id == field.id || other.name == field.name)
            {
                let twice = if other.id == field.id { field.id.to_string() } else { field.name };
                return Err((field.position, Problem::Duplicate(twice)));
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn field(&mut self, implicit: &mut i16) -> Result<Field> {
        let (docs, position) = (self.lexeme().docs.clone(), self.position());
        let id = match *self.peek() {
            Token::Int(number) => {
                self.take();
                self.symbol(':', "`:`")?;
                i16::try_from(number).map_err(|_| (position, Problem::Number(number.to_string())))?
            }
            _ => {
                *implicit = implicit.checked_sub(1).ok_or((position, Problem::Number("-32769".into())))?;
                *implicit
            }
        };
        let requiredness = match self.peek() {
            Token::Word(word) if word == "required" => Requiredness::Required,
            Token::Word(word) if word == "optional" => Requiredness::Optional,
            _ => Requiredness::Default,
        };
        if requiredness != Requiredness::Default {
            self.take();
        }
        let ty = self.ty(0)?;
        self.took('&');
        let (_, name) = self.name()?;
        let default = match self.took('=') {
            true => Some(self.value(0)?),
            false => None,
        };
        for attribute in ["xsd_optional", "xsd_nillable"] {
            self.took_word(attribute);
        }
        self.annotations()?;
        self.separator();
        Ok(Field { id, name, requiredness, ty, default, docs, position })
    }

    /// Skips `(name = "value", …)`.
    fn annotations(&mut self) -> Result<()> {
        if !self.took('(') {
            return Ok(());
        }
        while !self.took(')') {
            self.word("the name of an annotation")?;
            if self.took('=') {
                self.text()?;
            }
            self.separator();
        }
        Ok(())
    }

    fn lexeme(&self) -> &Lexeme {
        &self.lexemes[self.next]
    }

    fn peek(&self) -> &Token {
        &self.lexeme().token
    }

    fn position(&self) -> Position {
        self.lexeme().position
    }

    /// Never goes past the end.
    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.next += 1;
        }
        token
    }

    fn unexpected<T>(&self, expected: &'static str) -> Result<T> {
        Err((self.position(), Problem::Token { expected, found: self.peek().describe() }))
    }

    fn took(&mut self, symbol: char) -> bool {
        let is_next = *self.peek() == Token::Symbol(symbol);
        if is_next {
            self.take();
        }
        is_next
    }

    fn took_word(&mut self, word: &str) -> bool {
        let is_next = matches!(self.peek(), Token::Word(next) if next == word);
        if is_next {
            self.take();
        }
        is_next
    }

    fn separator(&mut self) {
        let _ = self.took(',') || self.took(';');
    }

    fn symbol(&mut self, symbol: char, expected: &'static str) -> Result<()> {
        match self.took(symbol) {
            true => Ok(()),
            false => self.unexpected(expected),
        }
    }

    fn word(&mut self, expected: &'static str) -> Result<String> {
        match self.peek().clone() {
            Token::Word(word) => {
                self.take();
                Ok(word)
            }
            _ => self.unexpected(expected),
        }
    }

    /// A name that is given, which has no dots.
    fn name(&mut self) -> Result<(Position, String)> {
        let position = self.position();
        match self.peek() {
            Token::Word(word) if !word.contains('.') => Ok((position, self.word("a name")?)),
            _ => self.unexpected("a name without dots"),
        }
    }

    fn reference(&mut self) -> Result<Reference> {
        let position = self.position();
        Ok(Reference { name: self.word("a name")?, position, target: None })
    }

    fn text(&mut self) -> Result<String> {
        match self.peek().clone() {
            Token::Text(text) => {
                self.take();
                Ok(text)
            }
            _ => self.unexpected("a text in quotes"),
        }
    }

    fn int(&mut self) -> Result<i64> {
        match *self.peek() {
            Token::Int(number) => {
                self.take();
                Ok(number)
            }
            _ => self.unexpected("a number"),
        }
    }
}
