//! Random values from a seed.

use std::collections::{BTreeMap, BTreeSet};

use callosum_thrift::{Bytes, MapVec, SetVec};
use fastrand::Rng;

use crate::everything::{Color, Either, Everything};
use crate::shared::Point;

fn maybe<T>(random: &mut Rng, make: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    random.bool().then(|| make(random))
}

fn list<T>(random: &mut Rng, mut make: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    (0..random.usize(..4)).map(|_| make(random)).collect()
}

fn text(random: &mut Rng) -> String {
    list(random, |random| random.char(..)).into_iter().collect()
}

/// Bytes that are no text: Python takes those that are one for a text, where a file says `list<binary>` too.
fn data(random: &mut Rng) -> Bytes {
    let mut bytes = vec![0xff];
    bytes.extend(list(random, |random| random.u8(..)));
    bytes.into()
}

/// Any double but those that are not themselves.
fn real(random: &mut Rng) -> f64 {
    random.i64(..) as f64 / 1024.0
}

fn color(random: &mut Rng) -> Color {
    *random.choice(&[Color::RED, Color::GREEN, Color::BLUE]).expect("there are three")
}

fn point(random: &mut Rng) -> Point {
    Point { x: random.i32(..), y: random.i32(..) }
}

/// A union.
pub fn random_either(random: &mut Rng) -> Either {
    match random.u8(..4) {
        0 => Either::Number(random.i64(..)),
        1 => Either::Text(text(random)),
        2 => Either::Point(point(random)),
        _ => Either::Texts(list(random, text)),
    }
}

/// A struct of which each field is there or not.
pub fn everything(random: &mut Rng) -> Everything {
    Everything {
        flag: maybe(random, Rng::bool),
        small: maybe(random, |random| random.i8(..)),
        middle: maybe(random, |random| random.i16(..)),
        number: maybe(random, |random| random.i32(..)),
        large: maybe(random, |random| random.i64(..)),
        real: maybe(random, real),
        text: maybe(random, text),
        data: maybe(random, data),
        color: maybe(random, color),
        point: maybe(random, point),
        either: maybe(random, random_either),
        numbers: maybe(random, |random| list(random, |random| random.i32(..))),
        nested: maybe(random, |random| list(random, |random| list(random, text))),
        by_name: maybe(random, |random| {
            list(random, |random| (text(random), random.i64(..))).into_iter().collect()
        }),
        deep: maybe(random, |random| {
            let inner = |random: &mut Rng| -> BTreeMap<_, _> {
                list(random, |random| (text(random), list(random, data))).into_iter().collect()
            };
            list(random, |random| (random.i32(..), inner(random))).into_iter().collect()
        }),
        places: maybe(random, |random| list(random, point)),
        groups: maybe(random, |random| {
            list(random, |random| (text(random), list(random, |random| random.i64(..)))).into_iter().collect()
        }),
        colors: maybe(random, |random| list(random, color)),
        by_color: maybe(random, |random| {
            list(random, |random| (color(random), random.bool())).into_iter().collect()
        }),
        maybe: maybe(random, text),
        defaulted: Some(random.i32(..)),
        greeting: text(random),
        needed: random.i32(..),
        by_real: maybe(random, |random| {
            let keys: BTreeSet<_> = list(random, |random| random.i32(..)).into_iter().collect();
            MapVec(keys.into_iter().map(|key| (f64::from(key) / 4.0, random.i8(..))).collect())
        }),
        unique: maybe(random, |random| list(random, |random| random.i64(..)).into_iter().collect()),
        unique_reals: maybe(random, |random| SetVec(list(random, real))),
        negative: maybe(random, Rng::bool),
        eithers: maybe(random, |random| list(random, random_either)),
        r#type: maybe(random, text),
        long_named: maybe(random, |random| random.i64(..)),
    }
}
