//! A service of every kind of method.

use callosum_runtime::{Context, HandlerError, HandlerResult};
use callosum_thrift::{Bytes, MethodError};
use parking_lot::Mutex;

use crate::everything::{
    Color, Either, Everything, Groups, NotFound, Store, StoreFailException, StoreNothingException,
};
use crate::shared::{Base, Busy};

/// Stores the values that it receives.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Vec<String>>);

impl Base for Memory {
    async fn ping(&self, text: String, _: &Context) -> HandlerResult<String> {
        Ok(format!("pong {text}"))
    }
}

impl Store for Memory {
    async fn same(&self, all: Everything, _: &Context) -> HandlerResult<Everything> {
        Ok(all)
    }

    async fn group(&self, numbers: Vec<i64>, names: Vec<String>, _: &Context) -> HandlerResult<Groups> {
        Ok(names.into_iter().map(|name| (name, numbers.clone())).collect())
    }

    async fn fail(&self, how: i32, _: &Context) -> Result<i32, MethodError<StoreFailException>> {
        match how {
            0 => Ok(0),
            1 => Err(NotFound { message: Some("größe".into()), code: Some(404) }.into()),
            2 => Err(Busy { again: 77 }.into()),
            _ => Err(HandlerError::new("ValueError", "how").into()),
        }
    }

    async fn nothing(&self, how: i32, _: &Context) -> Result<(), MethodError<StoreNothingException>> {
        match how {
            0 => Ok(()),
            _ => Err(NotFound { message: None, code: Some(how) }.into()),
        }
    }

    async fn silent(&self, _: &Context) -> HandlerResult<()> {
        Ok(())
    }

    async fn tell(&self, text: String, _: &Context) -> HandlerResult<()> {
        match &*text {
            "fail" => Err(HandlerError::new("ValueError", "fail")),
            _ => {
                self.0.lock().push(text);
                Ok(())
            }
        }
    }

    async fn told(&self, _: &Context) -> HandlerResult<Vec<String>> {
        Ok(self.0.lock().clone())
    }

    async fn sum(&self, a: i64, b: i64, c: Option<i64>, _: &Context) -> HandlerResult<i64> {
        Ok(a + b + c.unwrap_or(1000))
    }

    async fn following(&self, color: Color, _: &Context) -> HandlerResult<Color> {
        Ok(Color(color.0 + 1))
    }

    async fn reverse(&self, data: Bytes, _: &Context) -> HandlerResult<Bytes> {
        Ok(data.iter().rev().copied().collect())
    }

    async fn flip(&self, flag: bool, _: &Context) -> HandlerResult<bool> {
        Ok(!flag)
    }

    async fn half(&self, number: f64, _: &Context) -> HandlerResult<f64> {
        Ok(number / 2.0)
    }

    async fn swap(&self, either: Either, _: &Context) -> HandlerResult<Either> {
        Ok(match either {
            Either::Number(number) => Either::Text(number.to_string()),
            Either::Text(text) => Either::Texts(vec![text]),
            Either::Point(point) => Either::Number(point.x.into()),
            Either::Texts(texts) => Either::Point(crate::shared::Point { x: texts.len() as i32, y: 0 }),
        })
    }
}
